INSERT INTO tablecast.state (name, failed_at, failed_job, failed_run, error_kind, error, hint) VALUES (?, ?, ?, ?, ?, ?, ?) AS new
ON DUPLICATE KEY UPDATE failed_at = new.failed_at, failed_job = new.failed_job, failed_run = new.failed_run,
                        error_kind = new.error_kind, error = new.error, hint = new.hint
