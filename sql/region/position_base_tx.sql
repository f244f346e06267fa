ALTER TABLE tablecast.position
  ADD COLUMN base_tx BIGINT UNSIGNED NOT NULL DEFAULT 0
    COMMENT 'the state up to this stream transaction came with a dump' AFTER last_tx
