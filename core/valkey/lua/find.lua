-- Find jobs below a number, newest first, looking at a bounded number of them. Answer with the
-- number from which on all were looked at, 0 for the last, and with some fields of each that fits.
--
-- Numbers without a job are passed over by ``blocks``: it has how many jobs there are of each
-- thousand, as far as they are not trimmed.
-- uses: lib
-- flags: no-writes
local refused = misplaced()
if refused then
  return refused
end
local BLOCK = 1024
local partitions, before, most, looks = number(), number(), number(), number()
local states, task, tag, reason = arg(), arg(), arg(), arg()
local came_from, came_before, ended_from, ended_before = arg(), arg(), arg(), arg()
local since, with_error = arg(), arg()
came_from, came_before = tonumber(came_from), tonumber(came_before)
ended_from, ended_before = tonumber(ended_from), tonumber(ended_before)
since = tonumber(since)
local fields = {}
while at < #ARGV do
  fields[#fields + 1] = arg()
end
local partition = tonumber(string.match(KEYS[1], '{(%d+)}'))
local last = (tonumber(call('GET', P .. 'n')) or 0) * partitions + partition
if before == 0 or before > last then
  before = last + 1
end
local found, done = {before}, false

local function fits(s)
  local f = try('HMGET', P .. 'j:' .. s, 's', 'k', 'r', 't', 'e', 'b')
  local state = f[1]
  if not state then
    return false
  end
  local came, ended, began = tonumber(f[4]) or 0, tonumber(f[5]) or 0, tonumber(f[6]) or 0
  if came_from and came < came_from then
    -- All others came before it.
    done = true
    return false
  end
  if since then
    local changed = tonumber(state) >= 5 and ended or began
    if changed > since or came > since or string.sub(f[2], 1, 8) == 'headway.' then
      return false
    end
  end
  if not string.find(states, state, 1, true) or (task ~= '' and f[2] ~= task) or (reason ~= '' and f[3] ~= reason)
    or (came_before and came >= came_before) then
    return false
  end
  if ended_from or ended_before then
    if ended == 0 or (ended_from and ended < ended_from) or (ended_before and ended >= ended_before) then
      return false
    end
  end
  return true
end
local count = 0
-- Return whether to look at another one.
local function look(s)
  looks = looks - 1
  if fits(s) then
    count = count + 1
    local one = {s, call('HMGET', P .. 'j:' .. s, unpack(fields))}
    if with_error == '1' then
      one[3] = try('GET', P .. 'r:' .. s)
    end
    found[#found + 1] = one
  end
  return looks > 0 and count < most and not done
end

if tag ~= '' then
  local tagged = try('ZREVRANGEBYSCORE', P .. 'g:' .. tag, '(' .. string.format('%.0f', before), '-inf', 'LIMIT', 0, looks)
  local left = #tagged == looks
  for index, s in ipairs(tagged) do
    found[1] = s
    if not look(s) and not done then
      left = left or index < #tagged
      break
    end
    if done then
      break
    end
  end
  if not left or done then
    found[1] = 0
  end
  return found
end

local blocks = {}
for _, block in ipairs(call('HKEYS', P .. 'blocks')) do
  block = tonumber(block)
  -- The number of its first job, as n.
  if block * BLOCK * partitions + partition < before then
    blocks[#blocks + 1] = block
  end
end
table.sort(blocks, function(one, other) return one > other end)
-- The highest n below ``before``.
local top = math.ceil((before - partition) / partitions) - 1
for index, block in ipairs(blocks) do
  local low = math.max(block * BLOCK, 1)
  for n = math.min(block * BLOCK + BLOCK - 1, top), low, -1 do
    local s = string.format('%.0f', n * partitions + partition)
    found[1] = s
    if not look(s) then
      if done or (n == low and index == #blocks) then
        found[1] = 0
      end
      return found
    end
  end
end
found[1] = 0
return found
