-- Let a node in, or renew the tasks that it knows: each with its lane and limit as "lane:limit".
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local node, beat_ms = arg(), arg()
local knows = P .. 'knows:' .. node
call('SADD', P .. 'nodes', node)
call('SET', P .. 'hb:' .. node, 1, 'PX', beat_ms)
call('DEL', knows)
while at < #ARGV do
  call('HSET', knows, arg(), arg())
end
return now_text
