INSERT INTO tablecast.quarantine (name, table_schema, table_name, reason, since_tx, source_gtid, code, error, at,
                                  passed_over)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS new
ON DUPLICATE KEY UPDATE
  passed_over = tablecast.quarantine.passed_over
              + (new.since_tx < tablecast.quarantine.since_tx AND tablecast.quarantine.counted_to >= new.since_tx),
  since_tx    = LEAST(tablecast.quarantine.since_tx, new.since_tx)
