-- Accept groups of jobs: a job, a batch or an order each, all or none of a group.
--
-- The first write is one that a full server refuses, and what comes before it are reads. So a full
-- server accepts nothing, and still answers a call that was accepted before.
-- A resubmission (r) is a job whose record is that of a failed one. (s) is one that the node skips.
-- For an order that runs here, those of a call are counted in it, up to the first for which there is
-- no room.
-- uses: lib ordering
local refused = misplaced()
if refused then
  return refused
end
local node, sent, partitions = arg(), arg(), number()
refused = dead(node)
if refused then
  return refused
end
-- A step of an order has no number: it names the place after which it goes on.
local before = sent ~= '0' and call('HGET', P .. 'calls', node)
if before then
  local last, reply = string.match(before, '^(%d+) (.*)$')
  if last == sent then
    return cmsgpack.unpack(reply)
  elseif tonumber(last) > tonumber(sent) then
    return redis.error_reply('OVERTAKEN a later call of this node was answered')
  end
end
local size, most, own_most, free = number(), number(), number(), number()
local key_ms, keys_most, groups = number(), number(), number()
local order = read_order()
refused = order_gone(order)
if refused then
  return refused
end
local have = call('HMGET', KEYS[1], 'waiting', 'bytes', 'own', 'ordered')
follow(have[4])
local waiting, bytes, own = tonumber(have[1]) or 0, tonumber(have[2]) or 0, tonumber(have[3]) or 0
local STRIDE, LISTED_MOST = 8, 200

-- 1. Decide.
local holds = {}
local has_holds = call('EXISTS', P .. 'hold') == 1
local function closed(task)
  if not has_holds then
    return nil
  end
  if holds[task] == nil then
    holds[task] = false
    local text = call('HGET', P .. 'hold', task)
    if text then
      local hold = cjson.decode(text)
      local over = type(hold['until']) == 'number' and hold['until'] * 1000 <= now
      if hold.intake == 'closed' and not over then
        holds[task] = text
      end
    end
  end
  return holds[task] or nil
end
-- By key: the group of this call that has it.
local keyed = {}
local function answer_to_key(group)
  local here = keyed[group.key]
  if here then
    return here.digest == group.digest and {'replayed', here} or {'reused'}
  end
  local text = call('GET', P .. 'k:' .. group.key)
  if not text then
    return nil
  end
  local s, jobs, digest = string.match(text, '^(%d+):(%d+):(.*)$')
  return digest == group.digest and {'replayed', s, jobs} or {'reused'}
end
local function decide(group)
  if group.key ~= '' then
    local answer = answer_to_key(group)
    if answer then
      return answer
    end
  end
  local size_bytes = 0
  if group.kind == 'r' or group.kind == 's' then
    group.source = ARGV[group.at + 7]
    if group.kind == 's' then
      return {'gone'}
    elseif try('HGET', P .. 'j:' .. group.source, 's') ~= '6' then
      return {'not failed'}
    elseif call('EXISTS', P .. 'p:' .. group.source) == 0 then
      return {'gone'}
    end
  end
  for job = 0, group.jobs - 1 do
    local place = group.at + job * STRIDE
    local task = ARGV[place + 1]
    local hold = closed(task)
    if hold then
      return {'closed', task, hold}
    end
    size_bytes = size_bytes + tonumber(ARGV[place + 8])
  end
  if group.kind == 'o' then
    if own >= own_most then
      return {'orders'}
    end
    own = own + 1
  else
    if waiting + group.jobs > size then
      return {'full', size - waiting}
    elseif bytes + size_bytes > most then
      return {'bytes', most - bytes}
    end
    waiting = waiting + group.jobs
  end
  bytes = bytes + size_bytes
  if group.key ~= '' then
    keyed[group.key] = group
  end
end
local decided, total = {}, 0
local done, skipped, upto, no_room = 0, 0, '0', nil
for index = 1, groups do
  local group = {kind = arg(), key = arg(), digest = arg(), jobs = number()}
  group.at = at
  at = at + group.jobs * STRIDE
  group.answer = no_room or decide(group)
  if order then
    if group.answer and (group.answer[1] == 'full' or group.answer[1] == 'bytes') then
      no_room = group.answer
    else
      upto = group.source
      done, skipped = done + (group.answer and 0 or 1), skipped + (group.answer and 1 or 0)
    end
  end
  if not group.answer then
    group.index = total
    total = total + group.jobs
  end
  decided[index] = group
end

-- 2. Look at all that will be written, so that no write fails.
if total > 0 then
  local seen = {}
  local function look(command, name)
    if not seen[name] then
      seen[name] = true
      call(command, P .. name)
    end
  end
  for _, group in ipairs(decided) do
    if not group.answer then
      if group.key ~= '' then
        look('LLEN', 'ks')
      end
      if group.kind == 'b' then
        look('LLEN', 'bs')
      end
      for job = 0, group.jobs - 1 do
        local place = group.at + job * STRIDE
        if ARGV[place + 3] == '0' then
          look('LLEN', 'q:' .. line_of(ARGV[place + 2], ARGV[place + 1]))
          look('HLEN', 'ready')
        else
          look('ZCARD', 'd')
        end
        if ARGV[place + 4] ~= '' then
          look('ZCARD', 'x')
        end
        if ARGV[place + 6] ~= '' then
          look('HLEN', 'tags')
        end
      end
    end
  end

  -- 3. Write, the places in which the jobs are found last.
  --
  -- A server that has lost its last writes (a restart, a failover, an old backup) has lost numbers,
  -- and must not give them to other jobs. So a process that did not give the last ones goes on from
  -- a number by the clock: 2^17 a second, more than are ever given. It begins a block of numbers.
  local process = arg()
  if process and (process == '' or call('GET', P .. 'at') ~= process) then
    local n = tonumber(call('GET', P .. 'n')) or 0
    local block = math.floor(math.max(now - 1767225600000, 0) * 131.072 / partitions / 256)
    if n > 0 and n < block * 256 - 1 then
      call('SET', P .. 'n', string.format('%.0f', block * 256 - 1))
    end
    call('SET', P .. 'at', process)
  end
  local last = call('INCRBY', P .. 'n', total)
  local first = last - total
  -- Numbers are looked through by blocks of 256.
  for block = math.floor((first + (first == 0 and 0 or 256)) / 256), math.floor(last / 256) do
    try('ZADD', P .. 'blocks', block, block)
  end
  local partition = tonumber(string.match(KEYS[1], '{(%d+)}'))
  local pushes, fresh, added = {}, {}, 0
  local states, tasks = {['1'] = 0, ['2'] = 0}, {}
  -- Scores and members, those with a tag by tag.
  local delayed, guarded, tagged, decoded = {}, {}, {}, {}
  local function add(list, one, other)
    local last = #list
    list[last + 1] = one
    list[last + 2] = other
  end
  local function put(command, name, list)
    for from = 1, #list, 1000 do
      command('ZADD', P .. name, unpack(list, from, math.min(from + 999, #list)))
    end
  end
  for _, group in ipairs(decided) do
    if not group.answer then
      group.first = string.format('%.0f', (first + group.index + 1) * partitions + partition)
      local batch = group.kind == 'b' and (group.first .. ':' .. group.jobs) or nil
      for job = 0, group.jobs - 1 do
        local place = group.at + job * STRIDE
        local task, priority, delay = ARGV[place + 1], ARGV[place + 2], tonumber(ARGV[place + 3])
        local deadline, keep, tags = ARGV[place + 4], ARGV[place + 5], ARGV[place + 6]
        local s = string.format('%.0f', (first + group.index + 1 + job) * partitions + partition)
        local key = P .. 'j:' .. s
        local state = delay > 0 and '1' or '2'
        if group.source then
          call('COPY', P .. 'p:' .. group.source, P .. 'p:' .. s)
          call('PERSIST', P .. 'p:' .. s)
        else
          call('SET', P .. 'p:' .. s, ARGV[place + 7])
        end
        local facts = {key, 's', state, 'k', task, 'i', priority, 't', now_text, 'z', ARGV[place + 8]}
        if batch then
          add(facts, 'B', batch)
        end
        if keep ~= '' then
          add(facts, 'K', keep)
        end
        if deadline ~= '' then
          local at_ms = string.format('%.0f', now + tonumber(deadline))
          add(facts, 'x', at_ms)
          add(guarded, at_ms, s)
        end
        if tags ~= '' then
          add(facts, 'T', tags)
          decoded[tags] = decoded[tags] or cjson.decode(tags)
          for _, tag in ipairs(decoded[tags]) do
            tagged[tag] = tagged[tag] or {}
            add(tagged[tag], s, s)
          end
        end
        if delay > 0 then
          local due = string.format('%.0f', now + delay)
          add(facts, 'D', due)
          add(delayed, due, s)
        else
          local line = line_of(priority, task)
          local list = pushes[line]
          if not list then
            list = {}
            pushes[line] = list
          end
          list[#list + 1] = s
          added = added + 1
          fresh[task] = true
        end
        call('HSET', unpack(facts))
        states[state] = states[state] + 1
        tasks[task] = (tasks[task] or 0) + 1
        tell(s, task, state, 0, 0, tags)
      end
      if group.kind == 'o' then
        count('own', 1)
        call('HSET', KEYS[1], 'ordered', now_text)
      else
        count('waiting', group.jobs)
      end
      if batch then
        call('HSET', P .. 'b:' .. group.first, 'c', group.jobs, 'p', group.jobs)
        call('LPUSH', P .. 'bs', batch)
        call('LTRIM', P .. 'bs', 0, LISTED_MOST - 1)
      end
      if group.key ~= '' then
        call('SET', P .. 'k:' .. group.key,
          group.first .. ':' .. (batch and group.jobs or 0) .. ':' .. group.digest, 'PX', key_ms)
        if call('RPUSH', P .. 'ks', group.first .. ':' .. group.key) > keys_most then
          for _ = 1, 2 do
            local text = call('LLEN', P .. 'ks') > keys_most and call('LPOP', P .. 'ks')
            if text then
              local s, key = string.match(text, '^(%d+):(.*)$')
              local held = call('GET', P .. 'k:' .. key)
              -- The key may have come again since.
              if held and string.match(held, '^%d+') == s then
                call('DEL', P .. 'k:' .. key)
              end
            end
          end
        end
      end
    end
  end
  for state, jobs in pairs(states) do
    count('s:' .. state, jobs)
  end
  for task, jobs in pairs(tasks) do
    count('u:' .. task, jobs)
  end
  count('bytes', bytes - (tonumber(have[2]) or 0))
  for tag, list in pairs(tagged) do
    local index, jobs = P .. 'g:' .. tag, #list / 2
    local had = call('HGET', P .. 'tags', tag)
    local left, till = string.match(had or '0:0', '^(%d+):(%d+)$')
    if not had then
      -- It has no unfinished job, and expires with the last of the others.
      till = string.format('%.0f', math.max(call('PEXPIRETIME', index), 0))
      call('PERSIST', index)
    end
    call('HSET', P .. 'tags', tag, string.format('%d:%s', left + jobs, till))
    -- As many jobs that are gone leave as come, and one more.
    for _, old in ipairs(try('ZRANGE', index, 0, math.min(jobs, 100))) do
      if call('EXISTS', P .. 'j:' .. old) == 1 then
        break
      end
      try('ZREM', index, old)
    end
    put(try, 'g:' .. tag, list)
  end
  put(call, 'x', guarded)
  put(call, 'd', delayed)
  for line, list in pairs(pushes) do
    count_ready(line, #list)
    for from = 1, #list, 1000 do
      call('RPUSH', P .. 'q:' .. line, unpack(list, from, math.min(from + 999, #list)))
    end
  end
  settle_counts()
  -- Its node looks for them itself, as far as it has room and knows their tasks.
  for task in pairs(fresh) do
    if added <= free and try('HEXISTS', P .. 'knows:' .. node, task) == 1 then
      fresh[task] = nil
    end
  end
  if next(fresh) then
    wake(fresh, node)
  end
end

-- 4. Answer, and keep the answer for the same call.
local reply = {now_text, waiting, bytes}
for index, group in ipairs(decided) do
  local answer = group.answer
  if not answer then
    reply[index + 3] = group.first
  elseif answer[1] == 'replayed' and type(answer[2]) == 'table' then
    local here = answer[2]
    reply[index + 3] = {'replayed', here.first, here.kind == 'b' and here.jobs or 0}
  else
    reply[index + 3] = answer
  end
end
if upto ~= '0' then
  settle_order(order, done, skipped, upto)
end
if total > 0 and sent ~= '0' then
  call('HSET', P .. 'calls', node, sent .. ' ' .. cmsgpack.pack(reply))
end
return reply
