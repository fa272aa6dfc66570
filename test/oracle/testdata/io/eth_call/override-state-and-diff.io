>> {"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"from":"0x9fbc26dded942b13318eda89513b51314a446b16","to":"0x000000000000000000000000000000000000c0de"},"latest",{"0x000000000000000000000000000000000000c0DE":{"state":{},"stateDiff":{}}},null]}
<< {"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"account 0x000000000000000000000000000000000000c0DE has both 'state' and 'stateDiff'"}}
