UPDATE tablecast.position
   SET store = ?, seq = ?, chain = ?, last_tx = ?, base_tx = ?, covered = ?, as_of = ?, applied_at = ?, head_etag = ?,
       left_out = ?,
       last_error = NULL, last_error_at = NULL
 WHERE name = ? AND stream = ? AND seq = ? AND chain = ?
