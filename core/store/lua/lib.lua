-- All keys are in the slot of KEYS[1], which is hw:{<partition>}:c. ARGV[1] is the marker of the ids.
local P = string.sub(KEYS[1], 1, -2)
local call, try = redis.call, redis.pcall
local at = 0
local function arg()
  at = at + 1
  return ARGV[at]
end
local function number()
  at = at + 1
  return tonumber(ARGV[at]) or 0
end
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%.0f', now)

-- What comes after an order, in the same ms too, has a later time than that: the set of an order is
-- the jobs that have not changed since.
local function follow(ordered)
  if ordered and tonumber(ordered) >= now then
    now = ordered + 1
    now_text = string.format('%.0f', now)
  end
end

-- Changes of counts. They are written together, by settle_counts.
local counts, lines = {}, {}
local function count(field, by)
  counts[field] = (counts[field] or 0) + by
end
local function line_of(priority, task)
  return priority .. ':' .. task
end
local function count_ready(line, by)
  lines[line] = (lines[line] or 0) + by
end
local function settle_counts()
  for field, by in pairs(counts) do
    if by ~= 0 then
      call('HINCRBY', KEYS[1], field, string.format('%d', by))
    end
  end
  for line, by in pairs(lines) do
    if by ~= 0 and call('HINCRBY', P .. 'ready', line, by) <= 0 then
      -- All entries that are left are out of use.
      call('HDEL', P .. 'ready', line)
      call('UNLINK', P .. 'q:' .. line)
    end
  end
end

-- The first event of a script asks whether anybody reads them.
local kept, stream
local function tell(s, task, state, attempt, reason, tags)
  if kept == nil then
    local text = try('GET', P .. 'watched')
    kept, stream = string.match(type(text) == 'string' and text or '', '^(%d+) (%d+)$')
    kept = kept or false
  end
  if kept then
    try('XADD', P .. 'ev', 'MAXLEN', '~', kept, stream .. '-*',
      's', s, 'k', task, 'S', state, 'a', attempt or 0, 'r', reason or 0, 'T', tags or '', 't', now_text)
  end
end

-- Tell one idle node that knows one of the tasks that there is work.
local function wake(tasks, but)
  local idle = try('SRANDMEMBER', P .. 'idle', 8)
  for _, node in ipairs(idle) do
    if node ~= but then
      for task in pairs(tasks) do
        if try('HEXISTS', P .. 'knows:' .. node, task) == 1 then
          try('SREM', P .. 'idle', node)
          if call('SPUBLISH', P .. 'to:' .. node, 'work') > 0 then
            return
          end
          -- It has died, or its connection was lost.
          break
        end
      end
    end
  end
end

-- An error that stops the script before it has written anything, nil for none.
local function misplaced()
  -- This key is never there. While the slot is moved key by key, such a read raises: before any write.
  call('EXISTS', P)
  if call('GET', P .. 'm') ~= arg() then
    return redis.error_reply('MISPLACED the keys are not those of these ids')
  end
end
local function dead(node)
  if call('SISMEMBER', P .. 'nodes', node) == 0 then
    return redis.error_reply('DEAD the node was declared dead')
  end
end
