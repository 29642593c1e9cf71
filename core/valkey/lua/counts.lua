-- Read all counts, and of each task the time since which its oldest ready job waits.
-- uses: lib
-- flags: no-writes allow-oom
local refused = misplaced()
if refused then
  return refused
end
local LOOKS, LINES = 20, 200
local ready = call('HGETALL', P .. 'ready')
local oldest, by_task = {}, {}
for index = 1, math.min(#ready, 2 * LINES), 2 do
  local name = ready[index]
  local task = string.sub(name, 3)
  for _, text in ipairs(try('LRANGE', P .. 'q:' .. name, 0, LOOKS - 1)) do
    local s, version = string.match(text, '^(%d+):?(%d*)$')
    local f = try('HMGET', P .. 'j:' .. s, 's', 'i', 'v', 'D', 't')
    if f[1] == '2' and f[2] == string.sub(name, 1, 1) and (f[3] or '') == version then
      local since = tonumber(f[4] or f[5])
      if not by_task[task] or since < by_task[task] then
        by_task[task] = since
      end
      break
    end
  end
end
for task, since in pairs(by_task) do
  oldest[#oldest + 1] = task
  oldest[#oldest + 1] = string.format('%.0f', since)
end
return {
  now_text, call('HGETALL', KEYS[1]), ready, call('HGETALL', P .. 'busy'), call('HGETALL', P .. 'hold'),
  oldest, {call('LLEN', P .. 'e:5'), call('LLEN', P .. 'e:6'), call('LLEN', P .. 'e:7')},
  call('SMEMBERS', P .. 'nodes'), call('SMEMBERS', P .. 'dead'),
}
