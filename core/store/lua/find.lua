-- Look for jobs below a number, from the newest on. Return those that fit with their facts, and the
-- number from which on all were looked at, 0 for the end. A call looks at a bounded number of jobs.
-- uses: lib
-- flags: no-writes allow-oom
local refused = misplaced()
if refused then
  return refused
end
local partitions, before, limit, looks = number(), number(), number(), number()
-- Digits of states, and names. Empty: any. Times in ms, of submission and of end, from and before.
local states, task, tag, reason = arg(), arg(), arg(), arg()
local since, til, ended_since, ended_til = number(), number(), number(), number()
local any_end = ended_since == 0 and ended_til == 0
local partition = tonumber(string.match(KEYS[1], '{(%d+)}'))
local fields = {}
while at < #ARGV do
  fields[#fields + 1] = arg()
end
local found, is_over = {}, false
local function consider(s)
  local key = P .. 'j:' .. s
  local f = try('HMGET', key, 's', 'k', 'r', 't', 'e')
  if not f[1] or not string.find(states, f[1], 1, true) then
    return
  end
  local t, e = tonumber(f[4]), tonumber(f[5])
  if t < since then
    -- All others came before it.
    is_over = true
    return
  end
  if (task ~= '' and f[2] ~= task) or (reason ~= '' and (f[3] or '0') ~= reason)
    or (til > 0 and t >= til)
    or (not any_end and (not e or e < ended_since or (ended_til > 0 and e >= ended_til))) then
    return
  end
  found[#found + 1] = s
  found[#found + 1] = call('HMGET', key, unpack(fields))
  limit = limit - 1
end
local looked, upto = 0, before
if tag ~= '' then
  local numbers = call('ZRANGE', P .. 'g:' .. tag, before > 0 and '(' .. string.format('%.0f', before) or '+inf', '-inf',
    'BYSCORE', 'REV', 'LIMIT', 0, looks)
  upto = 0
  for index, s in ipairs(numbers) do
    consider(s)
    if is_over then
      break
    elseif limit <= 0 or index == looks then
      upto = tonumber(s)
      break
    end
  end
  return {string.format('%.0f', upto), found}
end
local last = tonumber(call('GET', P .. 'n')) or 0
local n = last
if before > 0 then
  n = math.min(n, math.ceil((before - partition) / partitions) - 1)
end
while n > 0 and limit > 0 and looked < looks and not is_over do
  local block = math.floor(n / 256)
  local at_or_below = call('ZRANGE', P .. 'blocks', block, '-inf', 'BYSCORE', 'REV', 'LIMIT', 0, 1)[1]
  looked = looked + 1
  if not at_or_below then
    n = 0
    break
  end
  n = math.min(n, at_or_below * 256 + 255)
  while n >= at_or_below * 256 and n > 0 and limit > 0 and looked < looks and not is_over do
    consider(string.format('%.0f', n * partitions + partition))
    looked = looked + 1
    n = n - 1
  end
end
return {n > 0 and not is_over and string.format('%.0f', (n + 1) * partitions + partition) or '0', found}
