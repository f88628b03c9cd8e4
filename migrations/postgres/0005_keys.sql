-- Keys of the server's own that outlive the master key: it is changed, and they are sealed anew.

CREATE TABLE server_keys (
    name          text   NOT NULL PRIMARY KEY, -- what it is for
    secret        bytea  NOT NULL,             -- sealed
    created_at    bigint NOT NULL
);
