-- Read all counts, of each task the time since which its oldest ready job waits, and of each line the
-- jobs that stand first.
-- uses: lib
-- flags: no-writes allow-oom
local refused = misplaced()
if refused then
  return refused
end
local DEEP, LOOKS, LINES = 50, 500, 200
local ready = call('HGETALL', P .. 'ready')
local oldest, by_task, views, looks = {}, {}, {}, 0
for index = 1, math.min(#ready, 2 * LINES), 2 do
  local name = ready[index]
  local task = string.sub(name, 3)
  local heads, list = {}, P .. 'q:' .. name
  for _, text in ipairs(try('LRANGE', list, 0, DEEP - 1)) do
    looks = looks + 1
    if looks > LOOKS and heads[1] then
      break
    end
    local s, version = string.match(text, '^(%d+):?(%d*)$')
    local f = try('HMGET', P .. 'j:' .. s, 's', 'i', 'v', 'D', 't')
    if f[1] == '2' and f[2] == string.sub(name, 1, 1) and (f[3] or '') == version then
      local since = tonumber(f[4] or f[5])
      if not heads[1] and (not by_task[task] or since < by_task[task]) then
        by_task[task] = since
      end
      heads[#heads + 1] = s
    end
  end
  views[#views + 1] = {name, try('LINDEX', list, -1) or '', heads}
end
for task, since in pairs(by_task) do
  oldest[#oldest + 1] = task
  oldest[#oldest + 1] = string.format('%.0f', since)
end
return {
  now_text, call('HGETALL', KEYS[1]), ready, call('HGETALL', P .. 'busy'), call('HGETALL', P .. 'hold'),
  oldest, {call('LLEN', P .. 'e:5'), call('LLEN', P .. 'e:6'), call('LLEN', P .. 'e:7')},
  call('SMEMBERS', P .. 'nodes'), call('SMEMBERS', P .. 'dead'), views,
}
