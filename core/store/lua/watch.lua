-- Have events written for so many ms from now on. Without readers none are: then a new stream
-- begins, and nobody can go on after an event of the one before.
--
-- ``watched`` is "<events to keep> <start>": the ids of the entries are <start>-0, <start>-1 and so on.
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local kept, lasts = number(), number()
local most, start = string.match(call('GET', P .. 'watched') or '', '^(%d+) (%d+)$')
if start then
  kept = math.max(kept, tonumber(most))
else
  start = string.format('%.0f', now)
  call('UNLINK', P .. 'ev')
end
call('SET', P .. 'watched', string.format('%.0f %s', kept, start), 'PX', lasts)
local last = call('XREVRANGE', P .. 'ev', '+', '-', 'COUNT', 1)[1]
return {start, last and tonumber(string.match(last[1], '-(%d+)$')) or -1}
