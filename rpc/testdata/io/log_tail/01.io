>> {"id":1,"jsonrpc":"2.0","method":"log_tail","params":[]}
<< {"jsonrpc":"2.0","id":1,"result":"0x5"}
