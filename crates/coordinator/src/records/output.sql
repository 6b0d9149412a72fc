-- How many bytes of its log a command wrote itself; what follows is the farm's own last line. NULL: all of them.
ALTER TABLE execs ADD COLUMN output BIGINT;
