-- Change the priority or the delay of a job that waits. It goes to the end of its new line.
-- uses: lib ending
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local s, priority, delay = arg(), arg(), arg()
local f = facts(s)
if not f then
  return {now_text, 'gone', '8'}
end
if f.s ~= '1' and f.s ~= '2' and f.s ~= '4' then
  return {now_text, 'late', f.s}
end
local key = P .. 'j:' .. s
local due = call('HGET', key, 'D')
local before = f.s
local state, new_due = before, due
if priority == '' then
  priority = f.i
end
if delay ~= '' and tonumber(delay) > 0 then
  new_due = string.format('%.0f', now + tonumber(delay))
  state = before == '2' and '1' or before
elseif delay ~= '' and before ~= '2' then
  new_due = now_text
  state = '2'
end
if state == before and new_due == due and priority == f.i then
  return {now_text, 'same', before}
end
call('ZCARD', P .. 'd')
call('HLEN', P .. 'ready')
call('HLEN', KEYS[1])
call('ZCARD', P .. 'x')
call('LLEN', P .. 'q:' .. line_of(priority, f.k))

call('HSET', key, 's', state, 'i', priority)
if new_due then
  call('HSET', key, 'D', new_due)
end
if before == '2' then
  -- Its entry is of an earlier version from now on.
  count_ready(line_of(f.i, f.k), -1)
  f.v = (tonumber(f.v) or 0) + 1
  call('HSET', key, 'v', f.v)
end
f.i = priority
if state == '2' then
  stand(s, f)
  if before ~= '2' then
    call('ZREM', P .. 'd', s)
  end
else
  call('ZADD', P .. 'd', new_due, s)
end
if state ~= before then
  moved(f, before, state)
  tell(s, f.k, state, f.a, 0, f.T)
end
settle_counts()
if state == '2' then
  wake({[f.k] = true}, '')
end
return {now_text, 'done', state}
