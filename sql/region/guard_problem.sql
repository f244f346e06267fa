INSERT INTO tablecast.guard (name, problem) VALUES (?, ?) AS new ON DUPLICATE KEY UPDATE problem = new.problem
