-- What Tablecast keeps in a region's server. Replicated to the region's own replicas like any other table.
CREATE DATABASE IF NOT EXISTS tablecast DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- How far this region has come in each stream. One row a stream, rewritten after each entry.
CREATE TABLE IF NOT EXISTS tablecast.position (
  name          VARCHAR(255)    NOT NULL COMMENT 'the stream as the config names it',
  stream        CHAR(36)        NOT NULL COMMENT 'its UUID, which is also that of its GTIDs',
  store         VARCHAR(1024)   NOT NULL COMMENT 'the bucket and prefix that head_etag belongs to',
  seq           BIGINT UNSIGNED NOT NULL COMMENT 'the last entry applied',
  chain         CHAR(64)        NOT NULL COMMENT 'its chain value: an index without it is refused',
  last_tx       BIGINT UNSIGNED NOT NULL COMMENT 'the last stream transaction of that entry',
  base_tx       BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the state up to this stream transaction came with a dump',
  covered       LONGTEXT        NOT NULL COMMENT 'the source transactions that this region shows, or that do not travel',
  as_of         DATETIME(6)     NULL     COMMENT 'UTC, the source''s clock: complete up to here',
  applied_at    DATETIME(6)     NOT NULL COMMENT 'UTC, the clock of the machine that runs apply',
  head_etag     VARCHAR(1024)   NULL     COMMENT 'the head that this region has wholly applied',
  lets_in       LONGTEXT        NULL     COMMENT 'JSON: the region''s list of tables that brought it here',
  left_out      LONGTEXT        NULL     COMMENT 'JSON: tables of the stream that this list does not let in',
  last_error    LONGTEXT        NULL     COMMENT 'of versions before tablecast.state',
  last_error_at DATETIME(6)     NULL     COMMENT 'UTC',
  PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Tables whose changes are passed over, because this region's copy differs from the source's. One row a table.
CREATE TABLE IF NOT EXISTS tablecast.quarantine (
  name             VARCHAR(255)    NOT NULL COMMENT 'the stream as the config names it',
  table_schema     VARCHAR(64)     NOT NULL,
  table_name       VARCHAR(64)     NOT NULL,
  reason           VARCHAR(16)     NOT NULL COMMENT 'conflict, definition, tied, held, added, let_in, drifted or own',
  since_tx         BIGINT UNSIGNED NOT NULL COMMENT 'changes by this stream transaction and those behind it are passed over',
  source_gtid      VARCHAR(512)    NULL     COMMENT 'the same transaction at the source',
  code             INT UNSIGNED    NULL     COMMENT 'MySQL''s error number',
  error            LONGTEXT        NOT NULL,
  at               DATETIME(6)     NOT NULL COMMENT 'UTC, the clock of the machine that runs apply',
  passed_over      BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'transactions whose changes to it were left out',
  counted_to       BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the stream transaction up to which they are counted',
  request          CHAR(32)        NULL     COMMENT 'the dump request that is to mend it',
  requested_at     DATETIME(6)     NULL     COMMENT 'UTC',
  request_error    LONGTEXT        NULL     COMMENT 'why the source could not be asked',
  request_attempts INT UNSIGNED    NOT NULL DEFAULT 0,
  PRIMARY KEY (name, table_schema, table_name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Tables that are being restored from a dump, or were: one row a restore, kept as the record of what happened.
CREATE TABLE IF NOT EXISTS tablecast.restore (
  id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
  name        VARCHAR(255)    NOT NULL COMMENT 'the stream as the config names it',
  why         VARCHAR(16)     NOT NULL COMMENT 'quarantine, asked, mandatory, resync or bootstrap',
  tables      LONGTEXT        NOT NULL COMMENT 'JSON: those that it was begun for, with what foreign keys tie to them',
  state       VARCHAR(16)     NOT NULL COMMENT 'wanted, loading, loaded, swapping; in the end done or superseded',
  for_entry   BIGINT UNSIGNED NULL     COMMENT 'the entry of the mandatory dump that it was begun for',
  entry       BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'no dump before this entry will do',
  dump        VARCHAR(64)     NULL     COMMENT 'the dump that it uses',
  at_tx       BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the stream transaction whose state the dump holds',
  until_tx    BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'the one up to which the loaded tables have been brought since',
  row_count   BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'rows loaded',
  row_total   BIGINT UNSIGNED NOT NULL DEFAULT 0 COMMENT 'rows in the dump',
  attempts    INT UNSIGNED    NOT NULL DEFAULT 0 COMMENT 'how often it has failed, or has needed another dump',
  request     CHAR(32)        NULL     COMMENT 'the dump request that it waits for',
  plan        LONGTEXT        NULL     COMMENT 'JSON: what is to be done to each table, from loading on',
  message     LONGTEXT        NULL     COMMENT 'what happened last',
  wanted_at   DATETIME(6)     NOT NULL COMMENT 'UTC, as all times here: the clock of the machine that runs apply',
  started_at  DATETIME(6)     NULL,
  loaded_at   DATETIME(6)     NULL,
  finished_at DATETIME(6)     NULL,
  PRIMARY KEY (id),
  KEY open_ones (name, state)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The write guard, where somebody has said another thing than the config, or where it cannot be set. One row a stream.
CREATE TABLE IF NOT EXISTS tablecast.guard (
  name       VARCHAR(255) NOT NULL COMMENT 'the stream as the config names it',
  mode       VARCHAR(16)  NULL     COMMENT 'triggers, grants or off, by `tablecast guard`; NULL: as the config says',
  since      DATETIME(6)  NULL     COMMENT 'UTC',
  changed_by VARCHAR(400) NULL     COMMENT 'the account that said so',
  reason     LONGTEXT     NULL,
  problem    LONGTEXT     NULL     COMMENT 'why it is not, or not everywhere, as it should be',
  PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Privileges on single tables that the guard has taken away: what `guard off` gives back. One row a grant.
CREATE TABLE IF NOT EXISTS tablecast.guard_taken (
  name         VARCHAR(255) NOT NULL COMMENT 'the stream as the config names it',
  table_schema VARCHAR(64)  NOT NULL,
  table_name   VARCHAR(64)  NOT NULL,
  account_user VARCHAR(32)  NOT NULL,
  account_host VARCHAR(255) NOT NULL,
  column_name  VARCHAR(64)  NOT NULL COMMENT 'empty: the whole table',
  taken        VARCHAR(255) NOT NULL COMMENT 'privileges that are gone',
  taking       VARCHAR(255) NOT NULL COMMENT 'privileges that a REVOKE was about to take: gone if they are not there',
  rest         VARCHAR(255) NOT NULL COMMENT 'what the account was left with: where none of it is there any more, nothing is given back',
  PRIMARY KEY (name, table_schema, table_name, account_user, account_host, column_name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- Tables that are here and were let go of, by a change of the set or of the region's list. Should the stream have one of
-- them again, this tells whether what is here may be replaced. One row a table.
CREATE TABLE IF NOT EXISTS tablecast.former (
  name         VARCHAR(255)    NOT NULL COMMENT 'the stream as the config names it',
  table_schema VARCHAR(64)     NOT NULL,
  table_name   VARCHAR(64)     NOT NULL,
  own          BOOLEAN         NOT NULL COMMENT '1: its rows were never the stream''s, and nobody replaces them unasked',
  entry        BIGINT UNSIGNED NOT NULL COMMENT 'the entry that let it go, or that the region was at when its list did',
  left_at      DATETIME(6)     NOT NULL COMMENT 'UTC, the clock of the machine that runs apply',
  PRIMARY KEY (name, table_schema, table_name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What holds for all runs of a stream here: a pause that somebody wants, and how the last run that failed ended. One row a stream.
CREATE TABLE IF NOT EXISTS tablecast.state (
  name         VARCHAR(255) NOT NULL COMMENT 'the stream as the config names it',
  paused_since DATETIME(6)  NULL     COMMENT 'UTC, as all times here; NULL: not paused',
  paused_until DATETIME(6)  NULL     COMMENT 'when it ends by itself; NULL: when somebody ends it',
  paused_by    VARCHAR(400) NULL     COMMENT 'user and machine',
  pause_reason LONGTEXT     NULL,
  failed_at    DATETIME(6)  NULL     COMMENT 'NULL: the last run ended well',
  failed_job   VARCHAR(32)  NULL     COMMENT 'the command',
  failed_run   VARCHAR(64)  NULL     COMMENT 'the run''s id, as its log lines have it',
  error_kind   VARCHAR(32)  NULL     COMMENT 'as --json has it',
  error        LONGTEXT     NULL,
  hint         LONGTEXT     NULL,
  PRIMARY KEY (name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What checks of rows have shown of each table. One row a table.
CREATE TABLE IF NOT EXISTS tablecast.checked (
  name         VARCHAR(255) NOT NULL COMMENT 'the stream as the config names it',
  table_schema VARCHAR(64)  NOT NULL,
  table_name   VARCHAR(64)  NOT NULL,
  differs      BOOLEAN      NOT NULL COMMENT '1: rows here were not those of the source when they were compared last',
  state        LONGTEXT     NOT NULL COMMENT 'JSON: what was compared when, and which rows differ',
  PRIMARY KEY (name, table_schema, table_name)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
