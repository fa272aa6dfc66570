>> {"id":1,"jsonrpc":"2.0","method":"log_reconfiguration","params":[9]}
<< {"jsonrpc":"2.0","id":1,"result":null}
