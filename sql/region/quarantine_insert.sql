-- That the rows are somebody's counts for more than any other reason. `reason` comes last: it is looked at before.
INSERT INTO tablecast.quarantine (name, table_schema, table_name, reason, since_tx, source_gtid, code, error, at,
                                  passed_over)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS new
ON DUPLICATE KEY UPDATE
  passed_over = tablecast.quarantine.passed_over
              + (new.since_tx < tablecast.quarantine.since_tx AND tablecast.quarantine.counted_to >= new.since_tx),
  since_tx    = LEAST(tablecast.quarantine.since_tx, new.since_tx),
  error       = IF(new.reason = 'own' AND tablecast.quarantine.reason <> 'own', new.error, tablecast.quarantine.error),
  at          = IF(new.reason = 'own' AND tablecast.quarantine.reason <> 'own', new.at, tablecast.quarantine.at),
  reason      = IF(new.reason = 'own', new.reason, tablecast.quarantine.reason)
