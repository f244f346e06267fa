INSERT INTO tablecast.guard (name, mode, since, changed_by, reason) VALUES (?, ?, ?, CONCAT(?, CURRENT_USER()), ?) AS new
ON DUPLICATE KEY UPDATE mode = new.mode, since = new.since, changed_by = new.changed_by, reason = new.reason,
                        problem = NULL
