>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"from":"0x9fbc26dded942b13318eda89513b51314a446b16","to":"0x000000000000000000000000000000000000c0de"},"latest",{"0x9FBc26dDed942b13318eDa89513b51314A446b16":{"balance":"0x0"}},null]}
<< {"jsonrpc":"2.0","id":1,"result":"0x"}
