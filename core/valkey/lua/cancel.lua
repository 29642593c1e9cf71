-- End unfinished jobs. With ``forget``, forget the results of those that have finished.
-- uses: lib ending forgetting
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
local keep, forgets = number(), arg()
call('LLEN', P .. 'e:7')
call('HDEL', KEYS[1], '')
local answers = {string.format('%.0f', now)}
while at < #ARGV do
  local s = arg()
  local f = facts(s)
  local answer = 'gone'
  if f and f.s == '3' then
    answer = 'asked'
    local owner, attempt = f.w, f.a
    end_job(s, f, '7', '6', keep, '')
    call('HDEL', P .. 'run:' .. owner, s)
    call('SPUBLISH', P .. 'to:' .. owner, 'cancel ' .. s .. ' ' .. attempt)
  elseif f and tonumber(f.s) < 5 then
    answer = 'dropped'
    take_out(s, f)
    end_job(s, f, '7', '0', keep, '')
  elseif f and f.s ~= '7' and forgets == '1' then
    answer = 'forgotten'
    forget(s)
  elseif f then
    answer = 'nothing'
  end
  answers[#answers + 1] = answer
end
settle_ends()
settle_counts()
return answers
