INSERT INTO tablecast.state (name, paused_since, paused_until, paused_by, pause_reason) VALUES (?, ?, ?, ?, ?) AS new
ON DUPLICATE KEY UPDATE paused_since = new.paused_since, paused_until = new.paused_until, paused_by = new.paused_by,
                        pause_reason = new.pause_reason
