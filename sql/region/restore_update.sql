UPDATE tablecast.restore
   SET tables = ?, state = ?, entry = ?, dump = ?, at_tx = ?, row_count = ?, row_total = ?, attempts = ?,
       request = ?, plan = ?, message = ?, started_at = ?, loaded_at = ?, finished_at = ?
 WHERE id = ?
