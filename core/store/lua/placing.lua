-- The places of jobs in a store that no node uses.
local function place(s, f)
  if f.s == '2' then
    stand(s, f)
  else
    call('ZADD', P .. 'd', call('HGET', P .. 'j:' .. s, 'D') or now, s)
  end
  guard(s, f)
  count('s:' .. f.s, 1)
  count('u:' .. f.k, 1)
  count('bytes', f.z)
  count(is_own(f.k) and 'own' or 'waiting', 1)
end
-- Count a job among those with its tags, unless it has ended and is kept until ``till``.
local function place_tags(s, f, till)
  for _, tag in ipairs(f.T and cjson.decode(f.T) or {}) do
    local index = P .. 'g:' .. tag
    local left, last = string.match(call('HGET', P .. 'tags', tag) or '', '^(%d+):(%d+)$')
    left = (tonumber(left) or 0) + (till and 0 or 1)
    last = math.max(tonumber(last) or call('PEXPIRETIME', index), till or 0)
    call('ZADD', index, s, s)
    if left > 0 then
      call('PERSIST', index)
      call('HSET', P .. 'tags', tag, string.format('%d:%.0f', left, last))
    else
      call('PEXPIREAT', index, string.format('%.0f', last))
    end
  end
end
