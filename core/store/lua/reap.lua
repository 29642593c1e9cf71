-- Take jobs from a node that has left, or whose heartbeat is missing. They go to the front of their
-- lines, or fail if they were begun too often. The check and the taking are one step.
--
-- A heartbeat must have been missing for a while: after an outage all of them are, until their nodes
-- are back. Since when it is stands in the store, so that it counts though the one who saw it died.
--
-- The node is among the dead until the last of them was taken, so any node can go on with it.
-- uses: lib ending
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local node, has_left, most, missing_ms = arg(), arg(), number(), number()
read_kept()
-- The lane of each task.
local lanes = cjson.decode(arg())
local DEATHS_MOST, DIED = 2, 'was running when its node died'
local run, held = P .. 'run:' .. node, P .. 'held:' .. node
local reply = {now_text, 'alive', {}}
local was_alive = call('SISMEMBER', P .. 'nodes', node) == 1
if was_alive and has_left == '0' and call('EXISTS', P .. 'hb:' .. node) == 1 then
  return reply
end
if was_alive and has_left == '0' then
  call('HSETNX', P .. 'late', node, now)
  if now - call('HGET', P .. 'late', node) < missing_ms then
    reply[2] = 'late'
    return reply
  end
end
if not was_alive and call('SISMEMBER', P .. 'dead', node) == 0 then
  reply[2] = 'done'
  return reply
end
local attempts, numbers = {}, {}
local list = call('HGETALL', run)
for index = 1, #list, 2 do
  attempts[list[index]] = list[index + 1]
  numbers[#numbers + 1] = list[index]
end
-- The newest first: each goes before those of before.
table.sort(numbers, function(one, other) return tonumber(one) > tonumber(other) end)
for index = 1, math.min(#numbers, most) do
  local f = facts(numbers[index])
  if f then
    call('LLEN', P .. 'q:' .. line_of(f.i, f.k))
  end
end
call('HLEN', P .. 'ready')
follow(call('HGET', KEYS[1], 'ordered'))
call('ZCARD', P .. 'x')
call('HLEN', P .. 'busy')
call('HLEN', held)

call('SREM', P .. 'nodes', node)
call('SADD', P .. 'dead', node)
-- The number of attempts after the first, from the terms of a record.
local function retries(s)
  local text = try('GETRANGE', P .. 'p:' .. s, 0, 511)
  return type(text) == 'string' and tonumber(string.match(text, '"retries":(%d+)')) or 0
end
local taken, tasks = {}, {}
for index = 1, math.min(#numbers, most) do
  local s = numbers[index]
  local f = facts(s)
  if f and f.s == '3' and f.w == node and f.a == tonumber(attempts[s]) then
    keep_attempt(s, f, cmsgpack.pack({
      number = f.a, started = 0, ended = now / 1000, place = lanes[f.k] or '', reason = 3, error = DIED,
    }))
    local state, reason = '2', '0'
    if f.x and tonumber(f.x) <= now then
      state, reason = '6', '4'
      end_job(s, f, state, reason, '\nits deadline came before an attempt succeeded')
    elseif f.a > retries(s) + DEATHS_MOST then
      state, reason = '6', '3'
      end_job(s, f, state, reason, '\n' .. DIED .. ', and ' .. f.a .. ' attempts were begun')
    else
      call('HSET', P .. 'j:' .. s, 's', state)
      call('HDEL', P .. 'j:' .. s, 'g', 'G', 'h')
      stand(s, f, true)
      guard(s, f)
      moved(f, '3', state)
      tell(s, f.k, state, f.a, 0, f.T)
      tasks[f.k] = true
    end
    for _, value in ipairs({s, f.k, f.a, state, reason}) do
      reply[3][#reply[3] + 1] = value
    end
  end
  taken[#taken + 1] = s
end
settle_ends()
settle_counts()
if #taken > 0 then
  call('HDEL', run, unpack(taken))
end
reply[2] = 'more'
if #taken == #numbers then
  reply[2] = 'done'
  local parts = call('HGETALL', held)
  for index = 1, #parts, 2 do
    if call('HINCRBY', P .. 'busy', parts[index], -parts[index + 1]) <= 0 then
      call('HDEL', P .. 'busy', parts[index])
    end
    tasks[parts[index]] = true
  end
  call('HDEL', P .. 'calls', node)
  call('HDEL', P .. 'steps', node)
  call('HDEL', P .. 'late', node)
  call('SREM', P .. 'idle', node)
  call('UNLINK', held, run, P .. 'knows:' .. node, P .. 'hb:' .. node)
  call('SREM', P .. 'dead', node)
end
if next(tasks) then
  wake(tasks, '')
end
return reply
