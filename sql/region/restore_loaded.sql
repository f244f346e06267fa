UPDATE tablecast.restore SET state = 'loaded', until_tx = ?, row_count = ?, loaded_at = ? WHERE id = ? AND state = 'loading'
