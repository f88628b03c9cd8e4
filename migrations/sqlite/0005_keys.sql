-- Keys of the server's own that outlive the master key: it is changed, and they are sealed anew.

CREATE TABLE server_keys (
    name          TEXT    NOT NULL PRIMARY KEY, -- what it is for
    secret        BLOB    NOT NULL,             -- sealed
    created_at    INTEGER NOT NULL
) STRICT;
