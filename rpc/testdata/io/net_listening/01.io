>> {"id":1,"jsonrpc":"2.0","method":"net_listening","params":[]}
<< {"jsonrpc":"2.0","id":1,"result":true}
