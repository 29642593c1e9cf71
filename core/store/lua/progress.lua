-- Show the progress of attempts of a node, each with a message, or an empty one.
-- uses: lib
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local node = arg()
refused = dead(node)
if refused then
  return refused
end
local answers = {}
while at < #ARGV do
  local s, attempt, percent, message = arg(), arg(), arg(), arg()
  local key = P .. 'j:' .. s
  local f = try('HMGET', key, 's', 'w', 'a', 'G')
  local runs = f[1] == '3' and f[2] == node and f[3] == attempt
  if runs then
    call('HSET', key, 'g', percent, 'h', now)
    if message ~= '' then
      call('HSET', key, 'G', message)
    elseif f[4] then
      call('HDEL', key, 'G')
    end
  end
  answers[#answers + 1] = runs and '1' or '0'
end
return table.concat(answers)
