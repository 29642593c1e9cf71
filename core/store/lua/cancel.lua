-- End unfinished jobs (c), forget what finished ones have left (f), or either (d).
--
-- For an order that runs here, count the jobs in it.
-- uses: lib ending ordering
-- flags: allow-oom
local refused = misplaced()
if refused then
  return refused
end
read_kept()
local mode, order = arg(), read_order()
refused = order_gone(order)
if refused then
  return refused
end
-- Forget the result, the failed attempts, the log and the payload of a finished job.
local function forget(s)
  call('HDEL', P .. 'j:' .. s, 'F', 'L')
  call('HSET', P .. 'j:' .. s, 'y', 1)
  call('UNLINK', P .. 'r:' .. s, P .. 'a:' .. s, P .. 'l:' .. s, P .. 'p:' .. s)
end
-- What may be written is read first, so that no write fails.
follow(call('HGET', KEYS[1], 'ordered'))
call('HLEN', P .. 'ready')
call('ZCARD', P .. 'd')
call('ZCARD', P .. 'x')
local answers, done, last = {now_text}, 0, '0'
while at < #ARGV do
  local s = arg()
  local f = facts(s)
  local answer = 'gone'
  if f and f.s == '3' and mode ~= 'f' then
    answer = 'asked'
    local owner, attempt = f.w, f.a
    end_job(s, f, '7', '6', '')
    try('HDEL', P .. 'run:' .. owner, s)
    call('SPUBLISH', P .. 'to:' .. owner, 'cancel ' .. s .. ' ' .. attempt)
  elseif f and tonumber(f.s) < 5 and mode ~= 'f' then
    answer = 'dropped'
    take_out(s, f)
    end_job(s, f, '7', '0', '')
  elseif f and (f.s == '5' or f.s == '6') and mode ~= 'c' then
    answer = 'forgotten'
    forget(s)
  elseif f then
    answer = 'nothing'
  end
  if answer ~= 'gone' and answer ~= 'nothing' then
    done = done + 1
  end
  answers[#answers + 1] = answer
  last = s
end
settle_order(order, done, #answers - 1 - done, last)
settle_ends()
settle_counts()
return answers
