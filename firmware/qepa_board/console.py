"""What the application says on the console."""


def say(text):
    """One line on the console; never a key, never a vital sign."""
    print("qepa: " + text)
