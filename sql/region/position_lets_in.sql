ALTER TABLE tablecast.position
  ADD COLUMN lets_in LONGTEXT NULL
    COMMENT 'JSON: the region''s list of tables that brought it here' AFTER head_etag,
  ADD COLUMN left_out LONGTEXT NULL
    COMMENT 'JSON: tables of the stream that this list does not let in' AFTER lets_in
