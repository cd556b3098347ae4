"""What the stages would take on a board, and what that costs: pure arithmetic on measured figures and data sheets."""

from dataclasses import dataclass

from .calibration import esp32_factor
from .currents import Chip, Currents
from .stages import Measured

ENCRYPTION = "encryption end to end"  # from plaintext words to fragments
WAVEFORM = "waveform, while wanted"
REFERENCE_MS = 31.8  # of an update encrypted on an ESP32, to be beaten
REFERENCE_MJ = 3.32

_ESP32_COREMARK = 497.0
# A packet of 251 bytes on the 1M PHY, inter-frame space, the answer without data (Bluetooth Core 5.4, vol. 6, part B)
_BLE_US_A_BYTE = 8
_BLE_OVERHEAD_BYTES = 14  # preamble, access address, header, MIC, CRC
_BLE_IFS_US = 150
_BLE_ACK_US = 80
_L2CAP_ATT_BYTES = 7
_TWO_HMACS_BYTES = 2 * 160 + 2 * 256  # of tag and frame, beyond what they cover; of the two keys derived for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One line of the budget. per: "second" of ECG, "beat" or "update". ``i386_us``, ``wasm_us`` are measured."""

    name: str
    per: str
    i386_us: float
    bytecode_us: float
    wasm_us: float
    board_us: float
    board_cycles: float
    basis: str


def board_stages(native: Measured, bytecode: Measured, wasm: Measured, chip: Chip, currents: Currents) -> list[Stage]:
    """All stages, estimated for ``chip``."""
    factor = esp32_factor(native.us["reference"]) * _ESP32_COREMARK / chip.coremark.value

    def stage(name: str, per: str, key: str, *, board_us: float | None = None, basis: str = "scaled") -> Stage:
        estimate = native.us[key] * factor if board_us is None else board_us
        return Stage(
            name=name,
            per=per,
            i386_us=native.us[key],
            bytecode_us=bytecode.us[key],
            wasm_us=wasm.us[key],
            board_us=estimate,
            board_cycles=estimate * chip.clock_mhz,
            basis=basis,
        )

    us = native.us
    aes_us = us["keystream_aes_bytes"] / chip.aes_mb_s.value
    sha_us = us["mac_sha_bytes"] / chip.sha256_mb_s.value
    wave_aes_bytes, wave_sha_bytes = us["wave_bytes"], 2 * us["wave_bytes"] + _TWO_HMACS_BYTES
    wave_ciphers_us = (
        wave_aes_bytes * us["keystream_aes"] / us["keystream_aes_bytes"]
        + wave_sha_bytes * us["mac_sha"] / us["mac_sha_bytes"]
    )
    return [
        stage("sample", "second", "sample"),
        stage("filter", "second", "filter"),
        stage("R peak", "second", "r_peak"),
        stage("features", "beat", "features_of_a_beat"),
        stage("classify", "beat", "classify_a_beat"),
        stage(
            WAVEFORM,
            "second",
            "wave",
            board_us=max(0.0, us["wave"] - wave_ciphers_us) * factor
            + wave_aes_bytes / chip.aes_mb_s.value
            + wave_sha_bytes / chip.sha256_mb_s.value,
            basis="scaled, AES and SHA-256 from their throughput",
        ),
        stage("learn", "update", "learn"),
        stage("quantize", "update", "quantize"),
        stage("noise", "update", "noise"),
        stage(
            "keystream",
            "update",
            "keystream",
            board_us=max(0.0, us["keystream"] - us["keystream_aes"]) * factor + aes_us,
            basis="scaled, AES from its throughput",
        ),
        stage("masks", "update", "masks"),
        stage("check", "update", "check"),
        stage(
            "mac",
            "update",
            "mac",
            board_us=max(0.0, us["mac"] - us["mac_sha"]) * factor + sha_us,
            basis="scaled, SHA-256 from its throughput",
        ),
        stage("fragments", "update", "fragments"),
        stage(
            ENCRYPTION,
            "update",
            "encrypt_update",
            board_us=max(0.0, us["encrypt_update"] - us["keystream_aes"] - us["mac_sha"]) * factor + aes_us + sha_us,
            basis="scaled, AES and SHA-256 from their throughput",
        ),
        stage(
            "flash write", "update", "flash_write", board_us=_flash_us(us["frame_bytes"], currents), basis="data sheet"
        ),
    ]


def _flash_us(n_bytes: float, currents: Currents) -> float:
    pages = -(-n_bytes // currents.flash.page_bytes)
    return 1000 * (currents.flash.sector_erase_ms.value + pages * currents.flash.page_program_ms.value)


def air_us(frame_bytes: float, n_fragments: float) -> tuple[float, float]:
    """Microseconds of sending and of listening for one frame in ``n_fragments`` notifications."""
    bytes_sent = frame_bytes + n_fragments * (1 + _L2CAP_ATT_BYTES + _BLE_OVERHEAD_BYTES)
    return bytes_sent * _BLE_US_A_BYTE, n_fragments * (2 * _BLE_IFS_US + _BLE_ACK_US)


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Of one update in mJ, and of the board over time. battery_h: how long ``battery_mah`` lasts.

    ``wave`` is what a waveform costs on top while somebody wants it.
    """

    encrypt_ms: float
    encrypt_mj: float
    learn_mj: float
    flash_mj: float
    radio_mj: float
    update_mj: float
    cpu_share: float
    average_ma: float
    battery_mah: float
    battery_h: float
    wave_mj_a_second: float
    wave_ma: float
    wave_battery_h: float


def board_energy(
    stages: list[Stage], measured: Measured, chip: Chip, currents: Currents, *, battery_mah: float, period_s: float
) -> Energy:
    """Energy of an ECG board that sends one update every ``period_s``; between its work the processor idles."""
    volts = currents.supply_v.value
    running_mw = volts * chip.running_ma.value
    us = {stage.name: stage.board_us for stage in stages}
    encrypt_us = us[ENCRYPTION]
    before_us = us["learn"] + us["quantize"] + us["noise"]
    sending_us, listening_us = air_us(measured.us["frame_bytes"], measured.us["n_fragments"])
    flash_mj = us["flash write"] * volts * (currents.flash.write_ma.value + chip.idle_ma.value) / 1e6
    radio_mj = _radio_mj(sending_us, listening_us, volts, chip)
    update_mj = (encrypt_us + before_us) * running_mw / 1e6 + flash_mj + radio_mj
    beats = measured.us["beats_per_s"]
    a_second_us = us["sample"] + us["filter"] + us["R peak"] + beats * (us["features"] + us["classify"])
    share = a_second_us / 1e6 + (encrypt_us + before_us) / 1e6 / period_s
    average_ma = (
        chip.idle_ma.value
        + share * (chip.running_ma.value - chip.idle_ma.value)
        + (flash_mj + radio_mj) / period_s / volts
        + currents.sensors["max30003"].value
    )
    wave_radio_mj = _radio_mj(*air_us(measured.us["wave_bytes"], measured.us["wave_fragments"]), volts, chip)
    wave_share = us[WAVEFORM] / 1e6
    wave_ma = wave_share * (chip.running_ma.value - chip.idle_ma.value) + wave_radio_mj / volts
    return Energy(
        encrypt_ms=encrypt_us / 1000,
        encrypt_mj=encrypt_us * running_mw / 1e6,
        learn_mj=before_us * running_mw / 1e6,
        flash_mj=flash_mj,
        radio_mj=radio_mj,
        update_mj=update_mj,
        cpu_share=share,
        average_ma=average_ma,
        battery_mah=battery_mah,
        battery_h=battery_mah / average_ma,
        wave_mj_a_second=wave_share * running_mw + wave_radio_mj,
        wave_ma=wave_ma,
        wave_battery_h=battery_mah / (average_ma + wave_ma),
    )


def _radio_mj(sending_us: float, listening_us: float, volts: float, chip: Chip) -> float:
    return volts * (sending_us * chip.ble_tx_ma.value + listening_us * chip.ble_rx_ma.value) / 1e6
