-- Forget what is over: jobs beyond the bounds, idempotency keys, holds, and blocks of numbers of
-- which no job is left. A call looks at a bounded number of each.
-- uses: lib ending
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local LOOKS, BLOCKS = 100, 20
-- Keys of blocks: about so many in a call, and so many at once.
local KEYS_LOOKED, AT_ONCE = 1024, 16
read_kept()
local keys_most, partitions, block_after = number(), number(), number()
local partition = tonumber(string.match(KEYS[1], '{(%d+)}'))
local dropped, more = 0, 0

for _, state in ipairs({'5', '6', '7'}) do
  local list = P .. 'e:' .. state
  local over = call('LLEN', list) - kept_jobs[state]
  if over > 0 then
    drop(state, math.min(over, LOOKS))
    dropped = dropped + math.min(over, LOOKS)
    more = over > LOOKS and 1 or more
  end
  -- Jobs that have expired, as far as they stand first.
  local gone = 0
  for _, s in ipairs(call('LRANGE', list, 0, LOOKS - 1)) do
    if call('EXISTS', P .. 'j:' .. s) == 1 then
      break
    end
    gone = gone + 1
  end
  if gone > 0 then
    call('LTRIM', list, gone, -1)
    more = gone == LOOKS and 1 or more
  end
end

local over = call('LLEN', P .. 'ks') - keys_most
local gone = 0
for _, text in ipairs(call('LRANGE', P .. 'ks', 0, LOOKS - 1)) do
  local s, key = string.match(text, '^(%d+):(.*)$')
  local held = try('GET', P .. 'k:' .. key)
  local is_this = type(held) == 'string' and string.match(held, '^%d+') == s
  if is_this and gone >= over then
    break
  elseif is_this then
    call('DEL', P .. 'k:' .. key)
  end
  gone = gone + 1
end
if gone > 0 then
  call('LTRIM', P .. 'ks', gone, -1)
  more = gone == LOOKS and 1 or more
end

local holds = call('HGETALL', P .. 'hold')
for index = 1, #holds, 2 do
  local hold = cjson.decode(holds[index + 1])
  if type(hold['until']) == 'number' and hold['until'] * 1000 <= now then
    call('HDEL', P .. 'hold', holds[index])
  end
end

-- The block of the last number is in use. The others are looked at in turn. A block with jobs is
-- known by the first of its keys, an empty one by all.
local last = math.floor((tonumber(call('GET', P .. 'n')) or 0) / 256)
local blocks = call('ZRANGEBYSCORE', P .. 'blocks', '(' .. block_after, '(' .. last, 'LIMIT', 0, BLOCKS)
local seen, empty, looks = 0, 0, 0
for _, block in ipairs(blocks) do
  if looks >= KEYS_LOOKED then
    break
  end
  local found, n = 0, block * 256
  while found == 0 and n < block * 256 + 256 do
    local keys = {}
    for index = 0, AT_ONCE - 1 do
      keys[index + 1] = P .. 'j:' .. string.format('%.0f', (n + index) * partitions + partition)
    end
    found, n, looks = call('EXISTS', unpack(keys)), n + AT_ONCE, looks + AT_ONCE
  end
  if found == 0 then
    call('ZREM', P .. 'blocks', block)
    empty = empty + 1
  end
  seen = seen + 1
end
-- Where half of them are empty there are more of them.
if empty > 1 and 2 * empty >= seen then
  more = 1
end
local is_last = seen == #blocks and #blocks < BLOCKS
return {dropped, more, is_last and '-1' or blocks[seen]}
