# shellcheck shell=bash
# Part of scripts/bench: what the primary's binlogs hold. Each workload sets title, described, tables, unit and units.

set_of_tables='g.t1 g.t2 g.t3 g.t4'

make_tables() {
  mini_logs=()
  sql primary <<'SQL'
CREATE DATABASE g;
CREATE DATABASE p;
USE g;
SET SESSION cte_max_recursion_depth = 100000;
CREATE TABLE g.t1 (id INT AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY (k));
INSERT INTO g.t1 (k, c, pad) WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < 25000)
  SELECT n * 7 % 25000, REPEAT(SHA2(n, 224), 2), SHA2(n + 1, 224) FROM s;
CREATE TABLE g.t2 LIKE g.t1; INSERT INTO g.t2 SELECT * FROM g.t1;
CREATE TABLE g.t3 LIKE g.t1; INSERT INTO g.t3 SELECT * FROM g.t1;
CREATE TABLE g.t4 LIKE g.t1; INSERT INTO g.t4 SELECT * FROM g.t1;
CREATE TABLE p.t1 LIKE g.t1; INSERT INTO p.t1 SELECT * FROM g.t1;
SQL
}

# write_routine NAME SCHEMA TABLE: a procedure that commits n transactions, each an update of an indexed column, one
# of text, a delete and an insert: what sysbench's oltp_write_only does. Ids of one caller are disjoint from others',
# as transactions of different users mostly are.
write_routine() {
  sql primary <<SQL
DELIMITER //
CREATE PROCEDURE p.$1(caller INT, callers INT, n INT)
BEGIN
  DECLARE i INT DEFAULT 0;
  DECLARE at INT;
  WHILE i < n DO
    SET at = 1 + callers * ((i * 7919) MOD (25000 DIV callers)) + caller;
    START TRANSACTION;
    UPDATE $2.$3 SET k = k + 1 WHERE id = at;
    UPDATE $2.$3 SET c = CONCAT(SHA2(i, 224), SUBSTR(c, 57)) WHERE id = at;
    DELETE FROM $2.$3 WHERE id = at;
    INSERT INTO $2.$3 (id, k, c, pad) VALUES (at, i, REPEAT(SHA2(i, 224), 2), SHA2(i, 224));
    COMMIT;
    SET i = i + 1;
  END WHILE;
END//
SQL
}

# in_parallel ROUTINE COUNT: by 8 callers.
in_parallel() {
  local caller pids=()
  for caller in 0 1 2 3 4 5 6 7; do
    sql primary -e "CALL p.$1($caller, 8, $(($2 / 8)))" &
    pids+=($!)
  done
  wait "${pids[@]}"
}

workload_oltp() {
  title="$transactions small transactions"
  described="Two updates, a delete and an insert each, by 8 callers on 4 tables of 25,000 rows of 200 bytes."
  note "writing: $title"
  make_tables
  local n
  for n in 1 2 3 4; do write_routine "oltp$n" g "t$n"; done
  copy_base
  local pids=()
  for n in 1 2 3 4; do in_parallel "oltp$n" $((transactions / 4)) & pids+=($!); done
  wait "${pids[@]}"
  tables='g.t1, g.t2, g.t3, g.t4' unit='transactions' units=$transactions mini_filter=('--replicate-do-db=g')
  end_workload
  described+=" $((binlog_bytes >> 20)) MiB of binlog."
}

workload_large() {
  title="1 transaction of $rows rows"
  note "writing: $title"
  make_tables
  copy_base
  sql primary g -e "SET SESSION cte_max_recursion_depth = $rows; INSERT INTO g.t1 (k, c, pad)
    WITH RECURSIVE s AS (SELECT 1 n UNION ALL SELECT n + 1 FROM s WHERE n < $rows) SELECT n, SHA2(n, 224), SHA2(n + 1, 224) FROM s"
  tables='g.t1' unit='rows' units=$rows mini_filter=('--replicate-do-db=g')
  end_workload
  described="INSERT ... SELECT into a table with a secondary index. $((binlog_bytes >> 20)) MiB of binlog."
}

workload_filtered10() { workload_filtered 1000; }
workload_filtered001() { workload_filtered 1; }

# workload_filtered [N]: of 10,000 transactions N travel (default 100: 1 %).
workload_filtered() {
  local kept=$((transactions * ${1:-100} / 10000))
  title="$transactions transactions, of which $(awk -v n="${1:-100}" 'BEGIN { print n / 100 }') % travel"
  note "writing: $title"
  make_tables
  write_routine ours g t1
  write_routine others p t1
  copy_base
  local pids=()
  in_parallel others $((transactions - kept)) & pids+=($!)
  in_parallel ours "$kept" & pids+=($!)
  wait "${pids[@]}"
  tables='g.t1' unit='transactions' units=$transactions mini_filter=('--replicate-do-db=g')
  end_workload
  described="As the small transactions; the others are in another schema. $((binlog_bytes >> 20)) MiB of binlog."
}

