"""Drivers of optical hardware: what speaks to a device, behind one narrow interface for each kind of device."""
