-- Add entries to the audit log. One that is there already is not added again. The last ones are kept.
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local key, kept = P .. 'audit', number()
local last = tonumber(call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]) or 0
while at < #ARGV do
  last = last + call('ZADD', key, 'NX', string.format('%.0f', last + 1), arg())
end
-- After a setting that kept more, the rest goes with the next entries.
local over = math.min(call('ZCARD', key) - kept, 1000)
if over > 0 then
  call('ZREM', key, unpack(call('ZRANGE', key, 0, over - 1)))
end
return last
