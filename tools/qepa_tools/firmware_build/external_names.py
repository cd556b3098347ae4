"""Names that MicroPython's own modules and types use: whatever else has one of them is not renamed.

What CPython has too is asked of CPython; what only boards have stands here, from the MicroPython documentation's quick
references (library/machine, bluetooth, network, esp, esp32, micropython, vfs, cryptolib, asyncio).
"""

import array
import asyncio
import binascii
import builtins
import collections
import gc
import hashlib
import io
import json
import os
import random
import select
import socket
import ssl
import struct
import sys
import time

_MODULES = (
    asyncio,
    binascii,
    builtins,
    collections,
    gc,
    hashlib,
    io,
    json,
    os,
    random,
    select,
    socket,
    ssl,
    struct,
    sys,
    time,
)
_TYPES = (
    *(str, bytes, bytearray, int, float, list, dict, set, frozenset, tuple, memoryview, range, slice, object, type),
    *(array.array, io.BytesIO, io.StringIO, io.FileIO, io.TextIOWrapper, collections.deque, collections.OrderedDict),
    *(socket.socket, ssl.SSLContext, ssl.SSLSocket, type(hashlib.sha256()), BaseException, OSError, StopIteration),
    *(asyncio.Event, asyncio.Lock, asyncio.Task, asyncio.StreamReader, asyncio.StreamWriter, property, classmethod),
    *(type(_ for _ in ()), struct.Struct),
)
_ON_BOARDS = """
    ADC Counter DAC I2C I2S PWM Pin RTC SDCard SPI SoftI2C SoftSPI Signal Timer TouchPad UART USBDevice WDT
    ADDR_MODE ALL_IRQ ATTN_0DB ATTN_11DB ATTN_2_5DB ATTN_6DB DEEPSLEEP DEEPSLEEP_RESET DRIVE_0 EXT0_WAKE
    HARD_RESET IDLE IN IRQ_FALLING IRQ_RISING LSB MSB ONE_SHOT OPEN_DRAIN OUT PERIODIC PULL_DOWN PULL_UP
    PWRON_RESET SLEEP SOFT_RESET WDT_RESET addr alarm atten auth authmode baudrate bits block bootloader
    callback cancel channel config const deepsleep deinit disable_irq drive duration duty duty_ns duty_u16
    enable_irq feed firstbit freq gpio handler hard hold id idle info init init_pull irq is_ready kbd_intr
    lightsleep mem16 mem32 mem8 miso mode mosi off on period phase polarity pull read read_u16 read_uv
    readblocks readfrom readfrom_into readfrom_mem readfrom_mem_into readinto reset reset_cause
    rtc_slow_memory scan sck scl sda sleep start stop timeout timer toggle trigger unique_id value wake_reason
    width write write_readinto writeblocks writeto writeto_mem writevto BLE FLAG_NOTIFY FLAG_READ FLAG_WRITE
    FLAG_WRITE_NO_RESPONSE UUID active addr_mode bond conn_handle gap_advertise gap_connect gap_disconnect
    gap_name gap_pair gap_passkey gap_scan gattc_read gattc_write gatts_indicate gatts_notify gatts_read
    gatts_register_services gatts_set_buffer gatts_write io le_secure mitm mtu rxbuf WLAN connect disconnect
    hostname ifconfig ipconfig isconnected ssid status aes decrypt encrypt ECB MODE_ECB Partition RMT ULP boot
    find get_next_update get_update mark_app_valid_cancel_rollback set_boot heap_info idf_heap_info
    nvs_get_blob nvs_set_blob NVS raw_temperature mcu_temperature alloc_emergency_exception_buf mem_info
    native opt_level qstr_info schedule stack_use viper heap_lock heap_unlock ThreadSafeFlag VfsFat VfsLfs1
    VfsLfs2 VfsPosix VfsRom ilistdir mount umount mkfs progsize collect enable disable mem_alloc mem_free
    threshold isenabled current_task create_task get_event_loop get_extra_info new_event_loop open_connection
    run run_forever sleep_ms start_server sleep_us ticks_add ticks_cpu ticks_diff ticks_ms ticks_us
    time_pulse_us wait_for wait_for_ms wait_closed drain a2b_base64 b2a_base64 crc32 print_exception platform
    implementation exit atexit path modules argv addressof bytearray_at bytes_at urandom sync statvfs uname
    getrandbits seed makefile setblocking settimeout setsockopt sendto recvfrom load_cert_chain
    load_verify_locations verify_mode wrap_socket server_hostname server_side cert_reqs cadata
"""

EXTERNAL_NAMES = frozenset(
    name for each in (*_MODULES, *_TYPES) for name in dir(each) if not name.startswith("__")
) | frozenset(_ON_BOARDS.split())
