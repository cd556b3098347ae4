"""The sensors of this board and what is made of their samples: measures, and conditions that call for someone.

Which sensors there are stands in board.json; a board without that file has an AD8232, as the demonstration boards do.
A sensor in trouble is a state with a name: its measures become unknown with that reason, the others go on.
"""

from qepa_wire.measures import (
    GLUCOSE,
    LEAD_OFF,
    NO_DATA,
    RESP_RATE,
    SENSOR_FAULT,
    SPO2,
    UNKNOWN,
)
from qepa_wire.payloads import (
    ALERT_APNOEA,
    ALERT_ASYSTOLE,
    ALERT_GLUCOSE_HIGH,
    ALERT_GLUCOSE_LOW,
    ALERT_LEAD_OFF,
    ALERT_LOW_SPO2,
    ALERT_SENSOR_FAULT,
    CARE_ASYSTOLE,
    CARE_LEAD_OFF,
    MAX_MEASURES,
    NO_BEAT_CLASS,
    Alert,
    Care,
)

from .drivers import open_sensor, states
from .streams.alerts import LOW_SPO2_ENDS, LOW_SPO2_STARTS, falls_below

DEMONSTRATION = {"chip": "ad8232", "out": 36, "lo_plus": 32, "lo_minus": 33}
SILENT_MS = 2000  # without samples of the sensor that gives the time, the clock gives it
_WAVEFORM_HZ = 25
_FAULTS = (states.BUS_ERROR, states.WRONG_CHIP, states.FAULT)
_TROUBLE = (states.BUS_ERROR, states.WRONG_CHIP, states.FAULT, states.OVERFLOW)
_REASONS = {states.LEAD_OFF: LEAD_OFF, states.OFF: NO_DATA}


class Feed:
    """One sensor and the processors its samples go to: (processor, which of the sensor's buffers, on a contact).

    Samples without a contact go to who needs none, and to ``always``: it numbers beats by sample and knows a railed
    input itself.
    """

    def __init__(self, driver, sinks, always):
        self.driver = driver
        self._sinks = sinks
        self._always = always
        self._state = states.OFF
        self.samples = 0  # lost ones included

    def poll(self):
        """Drain the sensor once; returns samples taken."""
        driver = self.driver
        n = driver.read()
        state = driver.state
        if state != self._state:
            self._state = state
            reason = SENSOR_FAULT if state in _FAULTS else _REASONS.get(state)
            if reason is not None:
                for processor, _, touches in self._sinks:
                    if touches or state != states.LEAD_OFF:
                        processor.fault(reason)
        if n:
            gap = driver.gap
            self.samples += n + gap
            for processor, buffers, touches in self._sinks:
                if gap:
                    processor.gap(gap)
                if state != states.LEAD_OFF or not touches:
                    processor.push(*buffers, n)
                elif processor is self._always:
                    processor.push(*buffers, n)
                    processor.unfit()
        return n


class Sensing:
    """All feeds of one board. ``ecg`` is the Vitals of its ECG lead, or None; ``clock()`` gives milliseconds.

    ``board`` is the record of board.json: "sensors", each as open_sensor takes it; "worn": {"up", "front"}, how a
    motion sensor sits; "ecg_respiration": true derives breathing from the ECG.
    """

    def __init__(self, board, flag, identity, clock):
        self._clock = clock
        self.flag = flag
        self._processors = []  # those with measures, in the order of the record
        self._optics = None
        self._motion = None
        self._glucose = None
        self._chest = None
        self.ecg = None
        self.feeds = []
        for entry in board.get("sensors") or (DEMONSTRATION,):
            if entry["chip"] == "ad8232" and "fs_hz" not in entry:
                entry = dict(entry, fs_hz=identity.fs_hz)  # noqa: PLW2901
            driver = open_sensor(entry, flag)
            self.feeds.append(Feed(driver, self._sinks(driver, identity, board), self.ecg))
        waves = [feed for feed in self.feeds if feed.driver.fs_hz >= _WAVEFORM_HZ]
        waves.sort(key=lambda feed: "ecg" not in feed.driver.channels)
        self._time_feed = waves[0] if waves else None
        self._t_ms = 0
        self._fresh = (clock(), 0)  # when the time feed last gave samples, by the clock and by samples
        self._measures = {}

    def _sinks(self, driver, identity, board):
        """Processors for the channels of ``driver``, each module loaded only where its channel is."""
        of = dict(zip(driver.channels, driver.buffers))
        sinks = []

        def add(processor, *names):
            self._processors.append(processor)
            sinks.append((processor, tuple([of[name] for name in names]), _touches(driver, names[0])))
            return processor

        if "ecg" in of and self.ecg is None:
            from .signals.vitals import Vitals  # noqa: PLC0415

            self.ecg = add(Vitals(driver.fs_hz, identity.mains_hz), "ecg")
            if board.get("ecg_respiration"):
                self.ecg.derive_breaths()
        if "resp" in of:
            from .signals.respiration import ThoracicRespiration  # noqa: PLC0415

            self._chest = add(ThoracicRespiration(driver.fs_hz), "resp")
        if "ir" in of:
            from .signals.optics import Optics  # noqa: PLC0415

            self._optics = add(Optics(driver.fs_hz), "red" if "red" in of else "ir", "ir")
        if "ax" in of:
            from .signals.motion import Motion  # noqa: PLC0415

            worn = board.get("worn") or {}
            motion = Motion(driver.fs_hz, tuple(worn.get("up", (0, 1, 0))), tuple(worn.get("front", (0, 0, 1))))
            self._motion = add(motion, "ax", "ay", "az")
        if "temperature" in of:
            from .signals.temperature import SkinTemperature  # noqa: PLC0415

            add(SkinTemperature(), "temperature")
        if "glucose" in of:
            from .signals.glucose import Glucose  # noqa: PLC0415

            of["minutes"] = driver.minutes
            self._glucose = add(Glucose(lambda: self._clock() // 1000), "glucose", "minutes")
        return sinks

    def start(self):
        """Start every sensor."""
        for feed in self.feeds:
            feed.driver.start()

    def stop(self):
        """Stop every sensor."""
        for feed in self.feeds:
            feed.driver.stop()

    def poll(self):
        """Drain each sensor once; returns whether any gave samples."""
        got = 0
        for feed in self.feeds:
            got += feed.poll()
        self._keep_time()
        return got > 0

    @property
    def t_ms(self):
        """Milliseconds since boot by the samples of the ECG, or of the fastest other sensor; by the clock while they
        stand still. Never goes back."""
        return self._t_ms

    def _keep_time(self):
        feed = self._time_feed
        now_ms = self._clock()
        if feed is None:
            self._t_ms = now_ms
            return
        by_samples = feed.samples * 1000 // feed.driver.fs_hz
        seen_ms, seen = self._fresh
        if by_samples != seen:
            self._fresh = (now_ms, by_samples)
        elif now_ms - seen_ms > SILENT_MS:
            by_samples += now_ms - seen_ms - SILENT_MS
        self._t_ms = max(self._t_ms, by_samples)

    def is_stuck(self):
        """Whether a sensor that should give samples neither does nor says why: only a reset helps."""
        feed = self._time_feed
        return (
            feed is not None
            and feed.driver.state in (states.RUNNING, states.OVERFLOW, states.LEAD_OFF)
            and self._clock() - self._fresh[0] > 2 * SILENT_MS
        )

    @property
    def has_samples(self):
        """Whether the sensor that gives the time has given samples lately; true where there is no such sensor."""
        return self._time_feed is None or self._clock() - self._fresh[0] <= SILENT_MS

    @property
    def lead_off(self):
        """Whether an electrode of the ECG is off; on a board without an ECG, whether a sensor is not on the skin.

        Nothing else may count where there is an ECG: while a lead is off nobody is told of asystole.
        """
        return any(
            feed.driver.state == states.LEAD_OFF and (self.ecg is None or _touches(feed.driver, "ecg"))
            for feed in self.feeds
        )

    @property
    def states(self):
        """The sensors' states (drivers.states)."""
        return [feed.driver.state for feed in self.feeds]

    def second(self):
        """To be called about once a second: judge all measures anew."""
        if self._motion is not None and self._optics is not None:
            self._optics.moving = self._motion.moving
        if self.ecg is not None:
            self.ecg.second(self.lead_off)
        out = []
        for processor in self._processors:
            processor.measures(out)
        self._measures = {code: (code, quality, value) for code, quality, value in out}

    def _value(self, code):
        """The measure's value as of the last second(), None while unknown or not measured here."""
        value = self._measures.get(code, (0, 0, UNKNOWN))[2]
        return None if value == UNKNOWN else value

    def urgent(self):
        """Levels of the conditions that can change within a second, as AlertEdges takes them."""
        conditions = {ALERT_LEAD_OFF: self.lead_off}
        if self.ecg is not None:
            conditions[ALERT_ASYSTOLE] = self.ecg.asystole()
        return conditions

    def conditions(self, alerts):
        """Levels of all conditions of this board's sensors, as AlertEdges takes them."""
        conditions = self.urgent()
        conditions[ALERT_SENSOR_FAULT] = any(state in _TROUBLE for state in self.states)
        if self._chest is not None:
            conditions[ALERT_APNOEA] = self._chest.apnoea()
        if self._optics is not None:
            active = alerts.is_active(ALERT_LOW_SPO2)
            conditions[ALERT_LOW_SPO2] = falls_below(self._value(SPO2), LOW_SPO2_STARTS, LOW_SPO2_ENDS, active)
        if self._glucose is not None:
            from .signals.glucose import LOW, VERY_HIGH, VERY_LOW  # noqa: PLC0415

            found = self._glucose.conditions
            low = None if found is None else 2 if found & VERY_LOW else 1 if found & LOW else 0
            conditions[ALERT_GLUCOSE_LOW] = low
            conditions[ALERT_GLUCOSE_HIGH] = None if found is None else int(found & VERY_HIGH != 0)
        return conditions

    def alert(self, boots, kind, level, battery_permille):
        """The alert of an edge; its value is the measure that it is about, 0 for none."""
        if kind == ALERT_LOW_SPO2:
            value = self._value(SPO2)
        elif kind == ALERT_APNOEA:
            value = self._value(RESP_RATE)
        elif kind in (ALERT_GLUCOSE_LOW, ALERT_GLUCOSE_HIGH):
            value = self._value(GLUCOSE)
        elif kind in (ALERT_ASYSTOLE, ALERT_LEAD_OFF):
            value = None if self.ecg is None else self.ecg.pipeline.hr_bpm()
        else:
            value = battery_permille
        return Alert(self._t_ms & 0xFFFFFFFF, boots & 0xFFFF, kind, 1 if level else 0, value or 0)

    def care(self, boots, model, alerts):
        """The care record of this moment."""
        flags = CARE_LEAD_OFF if self.lead_off or alerts.is_active(ALERT_LEAD_OFF) else 0
        if alerts.is_active(ALERT_ASYSTOLE):
            flags |= CARE_ASYSTOLE
        ecg = self.ecg
        return Care(
            self._t_ms & 0xFFFFFFFF,
            boots & 0xFFFF,
            flags,
            NO_BEAT_CLASS if ecg is None else ecg.beat_class,
            0 if ecg is None else ecg.pipeline.n_beats,
            model & 0xFFFF,
            tuple(self._measures.values())[:MAX_MEASURES],
        )

    def waves(self, boots):
        """The waveforms since the last call: a list of Wave."""
        waves = [source.wave(boots & 0xFFFF) for source in (self.ecg, self._motion) if source is not None]
        return [wave for wave in waves if wave is not None]


def _touches(driver, channel):
    """Whether ``channel`` is worth nothing while the driver's state is LEAD_OFF."""
    return channel in (driver.contact or driver.channels)
