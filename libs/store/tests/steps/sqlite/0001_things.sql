CREATE TABLE things (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    name  TEXT NOT NULL UNIQUE,
    count INTEGER,
    share REAL,
    body  BLOB
) STRICT;
