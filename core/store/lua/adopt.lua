-- Put jobs of another engine in their places, in a store that no node uses yet. Finished jobs come
-- in the order of their ends, the others in that of their numbers.
-- uses: lib ending placing
local partitions = number()
local over = {}
while at < #ARGV do
  local s, words = arg(), number()
  local key = P .. 'j:' .. s
  call('HSET', key, unpack(ARGV, at + 1, at + words))
  at = at + words
  local record, result, attempts = arg(), arg(), number()
  if record ~= '' then
    call('SET', P .. 'p:' .. s, record)
  end
  if result ~= '' then
    call('SET', P .. 'r:' .. s, result)
  end
  for _ = 1, attempts do
    call('RPUSH', P .. 'a:' .. s, arg())
  end
  words = number()
  if words > 0 then
    call('HSET', P .. 'l:' .. s, unpack(ARGV, at + 1, at + words))
    at = at + words
  end
  local block = string.format('%.0f', math.floor(math.floor(tonumber(s) / partitions) / 256))
  call('ZADD', P .. 'blocks', block, block)
  local f = facts(s)
  if tonumber(f.s) >= 5 then
    local till = call('HGET', key, 'U')
    for _, kind in ipairs({'j:', 'p:', 'r:', 'a:', 'l:'}) do
      call('PEXPIREAT', P .. kind .. s, till)
    end
    place_tags(s, f, tonumber(till))
    over[f.s] = over[f.s] or {}
    table.insert(over[f.s], s)
  else
    place(s, f)
    place_tags(s, f)
  end
end
for state, list in pairs(over) do
  call('RPUSH', P .. 'e:' .. state, unpack(list))
end
settle_counts()
return 1
