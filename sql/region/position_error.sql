UPDATE tablecast.position SET last_error = ?, last_error_at = ? WHERE name = ?
