"""Building the firmware: from sources to the files that go to a board."""
