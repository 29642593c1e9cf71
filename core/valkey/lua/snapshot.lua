-- Counts of a partition at one moment, and the beginning of each line of ready jobs.
-- uses: lib
-- flags: no-writes
local refused = misplaced()
if refused then
  return refused
end
-- Jobs of a line, and of all lines, that are named.
local DEEP, LOOKS = 50, 500
local looks, views = 0, {}
local ready = call('HGETALL', P .. 'ready')
for index = 1, #ready, 2 do
  local name = ready[index]
  local key = P .. 'q:' .. name
  local list = call('LRANGE', key, 0, DEEP - 1)
  local heads, oldest = {}, ''
  for _, text in ipairs(list) do
    looks = looks + 1
    if looks > LOOKS then
      break
    end
    local s, version = string.match(text, '^(%d+):?(%d*)$')
    local f = try('HMGET', P .. 'j:' .. s, 's', 'i', 'v', 't', 'D')
    if f[1] == '2' and f[2] == string.sub(name, 1, 1) and (f[3] or '') == version then
      heads[#heads + 1] = s
      if oldest == '' then
        oldest = f[5] or f[4]
      end
    end
  end
  views[#views + 1] = {name, ready[index + 1], oldest, call('LINDEX', key, -1) or '', heads}
end
return {
  string.format('%.0f', now), call('HGETALL', KEYS[1]), views, call('HGETALL', P .. 'busy'),
  call('HGETALL', P .. 'hold'), call('SCARD', P .. 'nodes'), call('ZCARD', P .. 'd'),
}
