"""The spool's schema, step by step. A step is never changed once released; a new one is appended."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE boards (
        board INTEGER PRIMARY KEY, patient TEXT NOT NULL, adopted INTEGER NOT NULL,
        epoch INTEGER NOT NULL DEFAULT 0, seq_down INTEGER NOT NULL DEFAULT 0, last_seen_ms INTEGER NOT NULL DEFAULT 0,
        boots INTEGER NOT NULL DEFAULT 0, model INTEGER NOT NULL DEFAULT 0, pads INTEGER NOT NULL DEFAULT 0,
        battery_permille INTEGER NOT NULL DEFAULT 65535
    );
    CREATE TABLE epochs (
        board INTEGER NOT NULL, epoch INTEGER NOT NULL, key_id BLOB NOT NULL, steps INTEGER NOT NULL,
        keys BLOB NOT NULL, PRIMARY KEY (board, epoch)
    ) WITHOUT ROWID;
    CREATE TABLE fetched (key_id BLOB PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE seen (
        board INTEGER NOT NULL, epoch INTEGER NOT NULL, seq INTEGER NOT NULL, mark BLOB NOT NULL,
        PRIMARY KEY (board, epoch, seq)
    ) WITHOUT ROWID;
    CREATE TABLE rounds (
        round INTEGER PRIMARY KEY, opened BLOB NOT NULL, nonce BLOB NOT NULL, patients TEXT NOT NULL,
        ready BLOB NOT NULL, started BLOB, readies TEXT, started_ms INTEGER, closed INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE vectors (
        round INTEGER NOT NULL, board INTEGER NOT NULL, stream INTEGER NOT NULL, sealed BLOB NOT NULL,
        received_ms INTEGER NOT NULL, PRIMARY KEY (round, board, stream)
    ) WITHOUT ROWID;
    CREATE TABLE shares (
        round INTEGER NOT NULL, cell INTEGER NOT NULL, stream INTEGER NOT NULL, phase TEXT NOT NULL,
        contributors TEXT NOT NULL, count BLOB, reason TEXT NOT NULL DEFAULT '', PRIMARY KEY (round, cell, stream)
    ) WITHOUT ROWID;
    CREATE TABLE counts (
        round INTEGER NOT NULL, cell INTEGER NOT NULL, stream INTEGER NOT NULL, gateway TEXT NOT NULL,
        patients INTEGER NOT NULL, boards INTEGER NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY (round, cell, stream, gateway)
    ) WITHOUT ROWID;
    CREATE TABLE outbox (
        id TEXT PRIMARY KEY, alert INTEGER NOT NULL, body BLOB NOT NULL, made_ms INTEGER NOT NULL
    );
    CREATE TABLE pairs (peer TEXT PRIMARY KEY, certificate BLOB NOT NULL, key BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE directory (name TEXT PRIMARY KEY, certificate TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE consents (
        board INTEGER PRIMARY KEY, consent_id BLOB NOT NULL, patient TEXT NOT NULL, not_after_s INTEGER NOT NULL,
        key BLOB NOT NULL
    );
    CREATE TABLE ended_consents (consent_id BLOB PRIMARY KEY) WITHOUT ROWID;
    """,
    """
    ALTER TABLE boards ADD COLUMN reset_cause INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE boards ADD COLUMN mode INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE blocks (
        key_id BLOB PRIMARY KEY, board INTEGER NOT NULL, size INTEGER NOT NULL, free TEXT NOT NULL,
        left INTEGER NOT NULL, listed_seq INTEGER NOT NULL, key BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
    "ALTER TABLE boards ADD COLUMN barred INTEGER NOT NULL DEFAULT 0;",
    "ALTER TABLE boards ADD COLUMN firmware INTEGER NOT NULL DEFAULT 0;",
)
