-- The end of a job, and its places before that.
local function facts(s)
  -- A key of another type counts as no job.
  local f = try('HMGET', P .. 'j:' .. s, 's', 'w', 'a', 'k', 'i', 'z', 'x', 'B', 'T', 'K', 'F', 'L', 'G', 'v')
  if not f[1] then
    return nil
  end
  return {
    s = f[1], w = f[2], a = tonumber(f[3]) or 0, k = f[4], i = f[5], z = tonumber(f[6]) or 0, x = f[7], B = f[8],
    T = f[9], K = f[10], F = f[11], L = f[12], G = f[13], v = f[14],
  }
end
local OWN = 'headway.'
local owned = {}
local function is_own(task)
  local is = owned[task]
  if is == nil then
    is = string.sub(task, 1, 8) == OWN
    owned[task] = is
  end
  return is
end
-- Count a job that comes into a state, or leaves it.
local IN = {['1'] = 's:1', ['2'] = 's:2', ['3'] = 's:3', ['4'] = 's:4', ['5'] = 's:5', ['6'] = 's:6', ['7'] = 's:7'}
local function moved(f, before, after)
  count(IN[before], -1)
  count(IN[after], 1)
  if not is_own(f.k) then
    local was, is = before ~= '3', after ~= '3' and tonumber(after) < 5
    if was ~= is then
      count('waiting', is and 1 or -1)
    end
  end
end
local function entry(s, f)
  return f.v and (s .. ':' .. f.v) or s
end
-- By outcome and task: how many jobs have just ended.
local ended_of = {['5'] = {}, ['6'] = {}, ['7'] = {}}
-- By outcome: the jobs that have just ended, for e:<outcome>, how long jobs are kept, in ms, and how many.
local ends, kept_ms, kept_jobs = {}, {}, {}
local function read_kept()
  for _, state in ipairs({'5', '6', '7'}) do
    kept_ms[state], kept_jobs[state] = number(), number()
  end
end
-- By tag: how many of its jobs have just ended, and until when the last of them is kept.
local tags_of_ends, decoded = {}, {}
local function end_of_tags(tags, till)
  local list = decoded[tags] or cjson.decode(tags)
  decoded[tags] = list
  for _, tag in ipairs(list) do
    local have = tags_of_ends[tag] or {0, 0}
    tags_of_ends[tag] = {have[1] + 1, math.max(have[2], till)}
  end
end
-- The index of a tag expires with the last of its jobs, once all have ended.
local function settle_tags()
  for tag, ended in pairs(tags_of_ends) do
    local have = try('HGET', P .. 'tags', tag)
    local left, last = string.match(type(have) == 'string' and have or '0:0', '^(%d+):(%d+)$')
    left, last = left - ended[1], math.max(tonumber(last), ended[2])
    if left <= 0 then
      try('HDEL', P .. 'tags', tag)
      call('PEXPIREAT', P .. 'g:' .. tag, string.format('%.0f', last))
    else
      try('HSET', P .. 'tags', tag, string.format('%d:%.0f', left, last))
    end
  end
end
local function end_of_batch(batch, state, till)
  local key = P .. 'b:' .. string.match(batch, '^%d+')
  local have = try('HMGET', key, 'p', 'U')
  if not have[1] then
    return
  end
  local last = string.format('%.0f', math.max(tonumber(have[2]) or 0, till))
  call('HINCRBY', key, state, 1)
  call('HSET', key, 'p', have[1] - 1, 'U', last)
  if tonumber(have[1]) <= 1 then
    call('PEXPIREAT', key, last)
  end
end
-- End a job for good. The caller takes it out of the place in which it was.
local function end_job(s, f, state, reason, result)
  local till = string.format('%.0f', now + (tonumber(f.K) or kept_ms[state]))
  local key = P .. 'j:' .. s
  if f.G then
    call('HDEL', key, 'G')
  end
  if is_own(f.k) then
    count('own', -1)
    call('UNLINK', P .. 'o:' .. s)
  end
  if reason ~= '0' then
    call('HSET', key, 'r', reason)
  end
  if result ~= '' then
    call('SET', P .. 'r:' .. s, result, 'PXAT', till)
    call('HSET', key, 's', state, 'e', now_text, 'U', till, 'y', 1)
  else
    call('HSET', key, 's', state, 'e', now_text, 'U', till)
  end
  call('PEXPIREAT', key, till)
  if state == '6' then
    call('PEXPIREAT', P .. 'p:' .. s, till)
  else
    call('UNLINK', P .. 'p:' .. s)
  end
  if f.F then
    call('PEXPIREAT', P .. 'a:' .. s, till)
  end
  if f.L then
    call('PEXPIREAT', P .. 'l:' .. s, till)
  end
  if f.T then
    end_of_tags(f.T, tonumber(till))
  end
  if f.B then
    end_of_batch(f.B, state, tonumber(till))
  end
  moved(f, f.s, state)
  local tasks = ended_of[state]
  tasks[f.k] = (tasks[f.k] or 0) + 1
  count('bytes', -f.z)
  local list = ends[state]
  if not list then
    list = {}
    ends[state] = list
  end
  list[#list + 1] = s
  tell(s, f.k, state, f.a, reason, f.T)
end
-- Forget the jobs that ended first, beyond the bound: no more of them than came, and a few.
local function drop(state, jobs)
  local list = try('LRANGE', P .. 'e:' .. state, 0, jobs - 1)
  for _, s in ipairs(list) do
    call('UNLINK', P .. 'j:' .. s, P .. 'r:' .. s, P .. 'p:' .. s, P .. 'a:' .. s, P .. 'l:' .. s)
  end
  call('LTRIM', P .. 'e:' .. state, jobs, -1)
end
local function settle_ends()
  settle_tags()
  for state, tasks in pairs(ended_of) do
    for task, jobs in pairs(tasks) do
      count('u:' .. task, -jobs)
      count('o:' .. task .. ':' .. state, jobs)
    end
  end
  for state, list in pairs(ends) do
    local length
    for from = 1, #list, 1000 do
      length = try('RPUSH', P .. 'e:' .. state, unpack(list, from, math.min(from + 999, #list)))
    end
    if type(length) == 'number' and length > kept_jobs[state] then
      drop(state, math.min(length - kept_jobs[state], #list + 20))
    end
  end
end
-- Take a job that waits out of its place. Its entry in a line stays, and is out of use.
local function take_out(s, f)
  if f.s == '2' then
    count_ready(line_of(f.i, f.k), -1)
  else
    call('ZREM', P .. 'd', s)
  end
  if f.x then
    call('ZREM', P .. 'x', s)
  end
end
-- Let a job wait: in a line, or until ``due``, in ms.
local function stand(s, f, front)
  local line = line_of(f.i, f.k)
  call(front and 'LPUSH' or 'RPUSH', P .. 'q:' .. line, entry(s, f))
  count_ready(line, 1)
end
local function guard(s, f)
  if f.x then
    call('ZADD', P .. 'x', f.x, s)
  end
end
local function keep_attempt(s, f, past)
  if past == '' then
    return
  end
  local key = P .. 'a:' .. s
  local kept_so_far = try('RPUSH', key, past)
  if type(kept_so_far) == 'number' and kept_so_far > 25 then
    -- The first 5 and the last 20 are kept.
    call('LSET', key, 5, '-')
    call('LREM', key, 1, '-')
  end
  if not f.F then
    f.F = '1'
    call('HSET', P .. 'j:' .. s, 'F', 1)
  end
end
