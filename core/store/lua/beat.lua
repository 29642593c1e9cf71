-- A sign of life of a node. Return the jobs in its hands with their attempts.
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local node, beat_ms = arg(), arg()
refused = dead(node)
if refused then
  return refused
end
call('SET', P .. 'hb:' .. node, 1, 'PX', beat_ms)
return {now_text, call('HGETALL', P .. 'run:' .. node)}
