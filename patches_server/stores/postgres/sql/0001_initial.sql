-- expand
CREATE SCHEMA IF NOT EXISTS patches;
SET LOCAL search_path = patches;

CREATE TABLE meta (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), level int NOT NULL, usable_from int NOT NULL,
    epoch text NOT NULL, identity text NOT NULL
);
CREATE TABLE migrations (
    level int PRIMARY KEY, name text NOT NULL, sha256 bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

CREATE SEQUENCE lives;
-- The time is in a life, so that a database restored from a dump gives no number twice.
CREATE FUNCTION next_life() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint * 4096
        + nextval('patches.lives') % 4096
$$;

-- One row for each document id, deleted ones too; without an algorithm there is no document.
-- It is the lock of commits and deletions. No index is on what a commit changes.
CREATE TABLE docs (
    doc_id text COLLATE "C" PRIMARY KEY, life bigint NOT NULL DEFAULT patches.next_life(),
    algorithm text, rev bigint NOT NULL DEFAULT 0, head_id bytea,
    head_at bigint NOT NULL DEFAULT 0, server_time bigint NOT NULL DEFAULT 0,
    size_bound bigint NOT NULL DEFAULT 0, depth_bound bigint NOT NULL DEFAULT 0,
    pruned bigint NOT NULL DEFAULT 0, floor bigint NOT NULL DEFAULT 0,
    ids_floor bigint NOT NULL DEFAULT 0, snapshot_rev bigint,
    deleted_at bigint, deleted_rev bigint, deleted_by bytea
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE ot_changes (
    life bigint, rev bigint, prev bigint NOT NULL, change_id bytea NOT NULL,
    created_at bigint NOT NULL, batch_id bytea, client_id bytea, crc bigint NOT NULL,
    change bytea NOT NULL, PRIMARY KEY (life, rev)
);
-- The ids of all changes: they stay when changes are pruned.
CREATE TABLE ot_change_ids (life bigint, change_id bytea, PRIMARY KEY (life, change_id));

CREATE TABLE lww_rows (
    life bigint, key bytea, path bytea, rev bigint NOT NULL, pos int NOT NULL, ts float8 NOT NULL,
    held bytea NOT NULL, hidden boolean NOT NULL, pinned boolean NOT NULL,
    droppable boolean NOT NULL, stored_at bigint NOT NULL, author bytea, crc bigint NOT NULL,
    op bytea NOT NULL,
    PRIMARY KEY (life, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lww_rows_by_rev ON lww_rows (life, rev);
CREATE INDEX lww_removals ON lww_rows (life, stored_at) WHERE droppable;
CREATE TABLE lww_change_ids (
    life bigint, change_id bytea, expires_at bigint NOT NULL, rev bigint NOT NULL,
    PRIMARY KEY (life, change_id)
);
CREATE INDEX lww_change_ids_by_expiry ON lww_change_ids (expires_at);
CREATE TABLE lww_snapshots (life bigint PRIMARY KEY, rev bigint NOT NULL, state bytea NOT NULL);
ALTER TABLE lww_snapshots ALTER COLUMN state SET STORAGE EXTERNAL;

CREATE TABLE versions (
    doc_id text COLLATE "C", version_id bytea, seq bigint GENERATED ALWAYS AS IDENTITY,
    origin text NOT NULL, group_id bytea, start_rev bigint NOT NULL, end_rev bigint NOT NULL,
    started_at float8 NOT NULL, record bytea NOT NULL, crc bigint NOT NULL, state bytea,
    PRIMARY KEY (doc_id, version_id)
);
ALTER TABLE versions ALTER COLUMN state SET STORAGE EXTERNAL;
CREATE INDEX versions_by_rev ON versions (doc_id, end_rev, seq);
CREATE TABLE branches (
    id text COLLATE "C" PRIMARY KEY, doc_id text COLLATE "C" NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY, modified_at bigint NOT NULL,
    deleted boolean NOT NULL, record bytea NOT NULL, crc bigint NOT NULL
);
CREATE INDEX branches_by_doc ON branches (doc_id, seq);

-- Lives whose rows are to be removed.
CREATE TABLE garbage (life bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE processes (
    process_id text PRIMARY KEY, host text NOT NULL, level int NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE revocations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
    principal text, doc_id text
);
