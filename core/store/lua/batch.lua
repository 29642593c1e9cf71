-- Read a batch: its counts, and a digit for the state of each job. 0: it is gone.
-- uses: lib
-- flags: no-writes allow-oom
local refused = misplaced()
if refused then
  return refused
end
local first, jobs, stride = number(), number(), number()
local counts_of = try('HMGET', P .. 'b:' .. string.format('%.0f', first), 'p', '5', '6', '7')
local states = {}
for job = 0, jobs - 1 do
  local state = try('HGET', P .. 'j:' .. string.format('%.0f', first + job * stride), 's')
  states[job + 1] = type(state) == 'string' and state or '0'
end
if not string.find(table.concat(states), '[1-9]') then
  counts_of = {}
end
return {
  tonumber(counts_of[1]) or 0, tonumber(counts_of[2]) or 0, tonumber(counts_of[3]) or 0, tonumber(counts_of[4]) or 0,
  table.concat(states),
}
