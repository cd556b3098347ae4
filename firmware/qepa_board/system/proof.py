"""Whether the firmware that runs works on this board: it decides whether a slot on trial stays."""

from ..errors import BoardError

HEALTHY_S = 60  # of sampling, after which crashes before this boot no longer count
GOOD_S = 300  # of sampling that stand in for a connection where there is none
LONGEST_TRIAL_S = 900


class Proof:
    """Watches one boot until the slot that runs has proved itself, or not.

    Call second() once a second. On trial that takes the checks and a connection, or GOOD_S seconds of sampling; a
    confirmed slot proves itself by HEALTHY_S seconds of sampling.
    """

    def __init__(self, flash, slots):
        self._flash = flash
        self._slots = slots
        self._checked = False
        self._seconds = 0
        self._sampled = 0
        self.done = False

    def _prove_quietly(self):
        try:
            self._slots.prove()
        except BoardError:
            pass  # flash refuses: the crashes before still count, nothing else is lost

    def second(self, states, sampled, connected):
        """Note a second: the sensors' states, whether samples came, whether the gateway is connected.

        Returns True when a trial is confirmed by this second. Raises BoardError("self_test") for a trial that has
        failed: the board is to reset, and after the last attempt the old slot runs.
        """
        if self.done:
            return False
        self._seconds += 1
        self._sampled += bool(sampled)
        if not self._slots.on_trial:
            if self._sampled >= HEALTHY_S:
                self.done = True
                self._prove_quietly()
            return False
        if not self._checked:
            from .self_test import check  # noqa: PLC0415  of no use to a confirmed slot

            check(self._flash, states)
            self._checked = True
        if self._sampled and (connected or self._sampled >= GOOD_S):
            self._slots.prove()
            self.done = True
            return True
        if self._seconds >= LONGEST_TRIAL_S:
            raise BoardError("self_test", "neither a connection nor samples in %d s" % LONGEST_TRIAL_S)
        return False
