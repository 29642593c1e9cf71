-- An order about many jobs: a step of it counts in the same script as it is done.
local function read_order()
  local s, attempt, node = arg(), arg(), arg()
  return s ~= '' and {s = s, attempt = attempt, node = node} or nil
end
-- An error if the order is no longer in the hands of its node, nil if it is.
local function order_gone(order)
  if order and call('HGET', P .. 'run:' .. order.node, order.s) ~= order.attempt then
    return redis.error_reply('FENCED the order is no longer carried out here')
  end
end
local function settle_order(order, done, skipped, upto)
  if order then
    call('HINCRBY', P .. 'o:' .. order.s, 'done', done)
    call('HINCRBY', P .. 'o:' .. order.s, 'skipped', skipped)
    call('HSET', P .. 'o:' .. order.s, 'upto', upto)
  end
end
