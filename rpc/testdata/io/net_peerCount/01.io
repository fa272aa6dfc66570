>> {"id":1,"jsonrpc":"2.0","method":"net_peerCount","params":[]}
<< {"jsonrpc":"2.0","id":1,"result":"0x2"}
