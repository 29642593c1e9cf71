-- A step of a node: end its attempts, act on what is due, and give it jobs to begin.
--
-- Repeated under the same call number it is answered as before, and nothing is done again. All that
-- it takes out of a list or a set it takes out last.
-- uses: lib ending
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local node, sent = arg(), arg()
refused = dead(node)
if refused then
  return refused
end
local run = P .. 'run:' .. node

local claims = {}
local function give(s, attempt, f, record)
  local last = #claims
  claims[last + 1] = s
  claims[last + 2] = attempt
  claims[last + 3] = f[1]
  claims[last + 4] = record
  claims[last + 5] = f[2]
  claims[last + 6] = f[3] or ''
  claims[last + 7] = f[4] or ''
  claims[last + 8] = f[5] or ''
end

local function reply_with(reply, values)
  for _, value in ipairs(values) do
    reply[#reply + 1] = value
  end
  return reply
end

-- The number of attempts that the node began ever.
local served = 0
local before = call('HGET', P .. 'steps', node)
if before then
  local last, answers, so_far, list = string.match(before, '^(%d+) ([01]*) (%d+) (.*)$')
  served = tonumber(so_far)
  if last == sent then
    for s in string.gmatch(list, '%d+') do
      local attempt = call('HGET', run, s)
      local f = try('HMGET', P .. 'j:' .. s, 'k', 't', 'D', 'x', 'B')
      local record = try('GET', P .. 'p:' .. s)
      if attempt and f[1] and type(record) == 'string' then
        give(s, attempt, f, record)
      end
    end
    return reply_with({now_text, answers, 0, 1, 0}, claims)
  elseif tonumber(last) > tonumber(sent) then
    return redis.error_reply('OVERTAKEN a later call of this node was answered')
  end
end
read_kept()
local places = number()
local lanes = {['0'] = number(), ['1'] = number(), ['2'] = number(), ['3'] = number()}
local finishes = number()
-- What may be written is read first, so that no write fails. An error of what only counts, or is an
-- index, stops nothing.
local have = call('HGETALL', P .. 'ready')
local has_holds = call('HLEN', P .. 'hold') > 0
call('HLEN', run)
follow(call('HGET', KEYS[1], 'ordered'))
-- Delayed jobs that are due, and jobs whose deadline has passed, at most. The others follow with the next step.
local DUE_MOST = 32
local soonest_of, changed = {}, {}
local function soonest_in(key)
  local first = call('ZRANGE', P .. key, 0, 0, 'WITHSCORES')
  soonest_of[key] = tonumber(first[2])
  return soonest_of[key] and soonest_of[key] <= now and call('ZRANGE', P .. key, '-inf', now_text, 'BYSCORE', 'LIMIT', 0, DUE_MOST) or {}
end
local overdue_at, due_at = soonest_in('x'), soonest_in('d')
local is_sound = {}
local function check(f)
  local line = line_of(f.i, f.k)
  if not is_sound[line] then
    call('LLEN', P .. 'q:' .. line)
    is_sound[line] = true
  end
end
local ended = {}
for index = 1, finishes do
  local place = at + index * 8 - 7
  local s = ARGV[place]
  if ended[s] == nil then
    ended[s] = facts(s) or false
    if ended[s] and ARGV[place + 2] == 'b' then
      check(ended[s])
    end
  end
end
for _, s in ipairs(due_at) do
  local f = facts(s)
  if f then
    check(f)
  end
end

-- 1. Ends of attempts.
local answers, gone, busy = {}, {}, {}
local function settle(f, s, attempt, verb, first, second, result, past)
  if not f or f.w ~= node or f.a ~= tonumber(attempt) then
    return false
  end
  if f.s ~= '3' then
    -- The same end, told again.
    return (verb == 'e' and f.s == first) or (verb == 'r' and f.s == '4') or false
  end
  keep_attempt(s, f, past)
  if verb == 'e' then
    end_job(s, f, first, second, result)
    f.s = first
  else
    local state, due, key = '4', string.format('%.0f', now + tonumber(first)), P .. 'j:' .. s
    if verb == 'b' then
      state = '2'
      call('HSET', key, 's', state, 'a', f.a - 1)
      stand(s, f, true)
    elseif verb == 's' then
      state = '1'
      call('HSET', key, 's', state, 'a', f.a - 1, 'D', due)
      call('ZADD', P .. 'd', due, s)
      changed.d = true
    else
      call('HSET', key, 's', state, 'D', due)
      call('ZADD', P .. 'd', due, s)
      changed.d = true
      count('retries', 1)
    end
    if f.G then
      call('HDEL', key, 'G')
    end
    guard(s, f)
    changed.x = changed.x or f.x
    moved(f, '3', state)
    tell(s, f.k, state, verb == 'r' and f.a or f.a - 1, 0, f.T)
    f.s = state
  end
  gone[#gone + 1] = s
  return true
end
for index = 1, finishes do
  local s, attempt, verb, release = arg(), arg(), arg(), arg()
  local first, second, result, past = arg(), arg(), arg(), arg()
  if release ~= '' then
    busy[release] = (busy[release] or 0) - 1
  end
  answers[index] = (verb == 'l' or settle(ended[s], s, attempt, verb, first, second, result, past)) and '1' or '0'
end
for from = 1, #gone, 1000 do
  call('HDEL', run, unpack(gone, from, math.min(from + 999, #gone)))
end

-- 2. Jobs at their deadline, and jobs that are due.
local overdue = {}
for _, s in ipairs(overdue_at) do
  local f = facts(s)
  if f and (f.s == '1' or f.s == '2' or f.s == '4') then
    take_out(s, f)
    end_job(s, f, '6', '4', '\nits deadline came before an attempt succeeded')
    overdue[#overdue + 1] = s
    overdue[#overdue + 1] = f.k
    overdue[#overdue + 1] = f.a
  else
    call('ZREM', P .. 'x', s)
  end
end
local promoted = {}
for _, s in ipairs(due_at) do
  local f = facts(s)
  if f and (f.s == '1' or f.s == '4') then
    call('HSET', P .. 'j:' .. s, 's', '2')
    stand(s, f)
    moved(f, f.s, '2')
    tell(s, f.k, '2', f.a, 0, f.T)
  end
  promoted[#promoted + 1] = s
end
if #promoted > 0 then
  call('ZREM', P .. 'd', unpack(promoted))
  changed.d = true
end
changed.x = changed.x or #overdue_at > 0

-- 3. Jobs to begin. A line is a list of the jobs of one task and priority. The entries of each are
-- taken from its head on.
local ready = {}
for index = 1, #have, 2 do
  ready[have[index]] = tonumber(have[index + 1])
end
for line, by in pairs(lines) do
  ready[line] = (ready[line] or 0) + by
end
local CHUNK, SKIPPED_MOST, FAIR_EVERY = 50, 500, 64
local skipped = 0
local holds, known = {}, {}
local function is_held(task)
  if not has_holds then
    return false
  end
  local text = call('HGET', P .. 'hold', task)
  if not text then
    return false
  end
  local hold = cjson.decode(text)
  local over = type(hold['until']) == 'number' and hold['until'] * 1000 <= now
  return hold.dispatch == 'hold' and not over
end
local function knowledge(task)
  local info = known[task]
  if info == nil then
    local text = call('HGET', P .. 'knows:' .. node, task)
    info = false
    if text and not is_held(task) then
      local lane, most = string.match(text, '^(%d):(%d+)$')
      info = {lane = lane, most = tonumber(most), room = math.huge}
      if info.most > 0 then
        info.room = info.most - (tonumber(try('HGET', P .. 'busy', task)) or 0) - (busy[task] or 0)
      end
    end
    known[task] = info
  end
  return info
end
local by_priority, all = {}, {}
for name, jobs in pairs(ready) do
  if jobs > 0 then
    local task = string.sub(name, 3)
    local info = knowledge(task)
    if info then
      local line = {
        name = name, task = task, priority = tonumber(string.sub(name, 1, 1)), info = info, key = P .. 'q:' .. name,
        chunk = {}, place = 0, used = 0, read = 0, began = 0, taken = {},
      }
      local list = by_priority[line.priority]
      if not list then
        list = {}
        by_priority[line.priority] = list
      end
      list[#list + 1] = line
      all[#all + 1] = line
    end
  end
end
-- Find the first job of a line that still stands there.
local function look(line)
  while not line.head and not line.is_over do
    line.place = line.place + 1
    local text = line.chunk[line.place]
    if not text then
      line.chunk = try('LRANGE', line.key, line.read, line.read + CHUNK - 1)
      line.read = line.read + #line.chunk
      line.place = 0
      line.is_empty = #line.chunk == 0
      line.is_over = line.is_empty
    else
      local s, version = string.match(text, '^(%d+):?(%d*)$')
      local f = try('HMGET', P .. 'j:' .. s, 'k', 't', 'D', 'x', 'B', 's', 'i', 'a', 'v', 'g', 'T')
      if f[6] == '2' and f[7] == tostring(line.priority) and (f[9] or '') == version and not line.taken[s] then
        line.head, line.facts, line.rank = s, f, tonumber(s)
      else
        line.used = line.used + 1
        skipped = skipped + 1
        if skipped > SKIPPED_MOST then
          line.is_over = true
        end
      end
    end
  end
end
local function first_of(list)
  local found
  for _, line in ipairs(list) do
    if line.info.room > 0 and lanes[line.info.lane] > 0 and (places > 0 or line.info.lane == '3') then
      look(line)
      if line.head and (not found or line.rank < found.rank) then
        found = line
      end
    end
  end
  return found
end
-- Jobs and bytes of a step, at most.
local JOBS_MOST, BYTES_MOST = 64, 4194304
-- A job whose payload somebody has deleted can never run.
local running, began, bare, names, size = {}, {}, {}, {}, 0
while #names + #bare < JOBS_MOST and size < BYTES_MOST do
  local line
  if (served + #names + 1) % FAIR_EVERY == 0 then
    line = first_of(all)
  else
    for priority = 9, 0, -1 do
      if by_priority[priority] then
        line = first_of(by_priority[priority])
        if line then
          break
        end
      end
    end
  end
  if not line then
    break
  end
  local s, f, info = line.head, line.facts, line.info
  line.head = nil
  line.used = line.used + 1
  line.taken[s] = true
  line.began = line.began + 1
  local record = try('GET', P .. 'p:' .. s)
  if type(record) == 'string' then
    info.room = info.room - 1
    lanes[info.lane] = lanes[info.lane] - 1
    if info.lane ~= '3' then
      places = places - 1
    end
    names[#names + 1] = s
    size = size + #record
    began[#began + 1] = {s = s, facts = f, line = line, record = record}
  else
    bare[#bare + 1] = s
  end
end
for _, s in ipairs(bare) do
  local f = facts(s)
  take_out(s, f)
  changed.x = changed.x or f.x
  end_job(s, f, '6', '5', '\nits payload is no longer in the store')
end
for _, one in ipairs(began) do
  local s, f, line = one.s, one.facts, one.line
  local attempt = (tonumber(f[8]) or 0) + 1
  local key = P .. 'j:' .. s
  give(s, attempt, f, one.record)
  call('HSET', key, 's', '3', 'a', attempt, 'b', now_text, 'w', node)
  if f[10] then
    call('HDEL', key, 'g', 'h')
  end
  if f[4] then
    changed.x = true
    call('ZREM', P .. 'x', s)
  end
  running[#running + 1] = s
  running[#running + 1] = attempt
  busy[line.task] = (busy[line.task] or 0) + 1
  count_ready(line.name, -1)
  moved({k = line.task}, '2', '3')
  tell(s, line.task, '3', attempt, 0, f[11])
end
if #running > 0 then
  call('HSET', run, unpack(running))
end
for task, by in pairs(busy) do
  if by ~= 0 then
    for _, key in ipairs({P .. 'busy', P .. 'held:' .. node}) do
      local left = try('HINCRBY', key, task, by)
      if type(left) == 'number' and left <= 0 then
        call('HDEL', key, task)
      end
    end
  end
end
if finishes > 0 or #names > 0 then
  call('HSET', P .. 'steps', node,
    sent .. ' ' .. table.concat(answers) .. ' ' .. (served + #names) .. ' ' .. table.concat(names, ' '))
end
settle_ends()
local more, tasks = 0, {}
for _, line in ipairs(all) do
  if line.used > 0 then
    -- Last of all that gives a job: an error before would give it again.
    call('LTRIM', line.key, line.used, -1)
  end
  local left = ready[line.name] - line.began
  if line.is_empty then
    -- Its count was wrong, or is 0.
    count_ready(line.name, -left)
  elseif left > 0 and line.info.room > 0 then
    more = 1
    tasks[line.task] = true
  end
end
settle_counts()

-- 4. When to look again.
try(places > 0 and 'SADD' or 'SREM', P .. 'idle', node)
if next(tasks) then
  wake(tasks, node)
end
local soonest = -1
for _, key in ipairs({'d', 'x'}) do
  if changed[key] then
    soonest_of[key] = tonumber(call('ZRANGE', P .. key, 0, 0, 'WITHSCORES')[2])
  end
  if soonest_of[key] then
    local ms = math.max(soonest_of[key] - now, 0)
    soonest = soonest < 0 and ms or math.min(ms, soonest)
  end
end
if skipped > SKIPPED_MOST then
  -- Behind entries out of use there may be a job.
  soonest = 0
end
return reply_with(reply_with({now_text, table.concat(answers), soonest, more, #overdue}, overdue), claims)
